"""The hash methods, one per file."""
