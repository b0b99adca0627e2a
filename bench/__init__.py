"""Benchmarks of speed and memory: `python -m bench` runs those with a floor or a ceiling."""
