"""`bitcell explain`, `recommend` and `label-next`: answers about the user's own data."""
