"""What theorems say about a dataset: `bitcell explain`, and the measured gain of new labels."""
