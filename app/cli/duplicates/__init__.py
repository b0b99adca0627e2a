"""`bitcell duplicates`: near-duplicates of a collection of a running service."""
