"""Dataset files of every format, which is recognised by their content."""

from __future__ import annotations

import zipfile
from pathlib import Path

from app.datasets import hdf5, parquet, vectors
from app.datasets.dataset import BadDataset, Dataset
from app.datasets.npz import read_npz
from hashing.validation import InvalidInput

FORMATS = "npz, npy, fvecs, bvecs, ivecs, HDF5 as ann-benchmarks has it, and parquet"


def read_dataset(path: Path, name: str, *, images: bool = False) -> Dataset:
    """Read a dataset from a file; its name does not matter.

    Parameters
    ----------
    path : Path
        A file in one of FORMATS.
    name : str
        The name of the dataset.
    images : bool
        Whether to read the images, if the file has any.

    Raises
    ------
    BadDataset
        The file has another format, is damaged, or holds something else than descriptors; or the
        package that reads its format is missing.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if start.startswith(vectors.NPY):
            return vectors.read_npy(path, name)
        if start == hdf5.MAGIC:
            return hdf5.read_hdf5(path, name)
        if start.startswith(parquet.MAGIC):
            return parquet.read_parquet(path, name)
        if zipfile.is_zipfile(path):
            return read_npz(path, name, images=images)
        if (records := vectors.records_of(path)) is not None:
            return vectors.from_records(records, path, name)
    except InvalidInput as error:
        raise BadDataset(f"{path}: {error}") from None
    raise BadDataset(f"{path} is in no format that is read here; these are {FORMATS}")
