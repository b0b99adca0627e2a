"""Datasets, protocol, metrics and the benchmark itself; usable without FastAPI."""
