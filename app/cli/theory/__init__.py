"""`bitcell explain` and `bitcell label-next`: what theory says about a dataset."""
