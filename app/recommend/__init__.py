"""Recommend a method and a code length for a dataset and a goal."""
