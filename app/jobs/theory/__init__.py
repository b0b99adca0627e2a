"""Jobs that measure what theory says about data."""
