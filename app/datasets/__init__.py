"""Datasets: file formats and those that are built in or fetched."""
