"""Files of the data directory: snapshots, and copies of the whole directory."""
