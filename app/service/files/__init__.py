"""Files of the data directory: snapshots, datasets, and copies of the whole directory."""
