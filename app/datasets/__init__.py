"""Datasets: built in, fetched, or read from a file."""
