"""Measurements with floors; `python -m bench` runs them all."""
