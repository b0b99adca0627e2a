"""Routes of what theory says about data."""
