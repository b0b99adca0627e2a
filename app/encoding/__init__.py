"""Files of descriptors to files of codes, on this machine or on a Dask cluster."""
