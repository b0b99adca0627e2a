"""Benchmarks without labels: how many of the true neighbours are found.

Only `run` and what it imports load Faiss; `protocol` does not.
"""
