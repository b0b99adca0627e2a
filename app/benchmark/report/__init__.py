"""The benchmark report as one HTML page."""
