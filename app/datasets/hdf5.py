"""Datasets in HDF5 files, as ann-benchmarks publishes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.datasets.dataset import BadDataset, Dataset, Given, unlabelled
from app.datasets.npz import MOST_INFLATED
from hashing.validation import InvalidInput, as_descriptors, check_finite

MAGIC = b"\x89HDF\r\n\x1a\n"
_DISTANCES = {"euclidean": "euclidean", "angular": "cosine"}


def read_hdf5(path: Path, name: str) -> Dataset:
    """Read the datasets `train` (n, d), and if the file has them `test` (q, d) and `neighbors`.

    Raises
    ------
    BadDataset
        h5py is missing, or the file is damaged.
    InvalidInput
        Something has the wrong shape or dtype, or says that it is larger than the file.
    """
    try:
        import h5py
    except ImportError:
        raise BadDataset(f"{path} is HDF5: to read it, `pip install h5py`") from None
    try:
        with h5py.File(path, "r") as file:
            dataset = unlabelled(name, _read(h5py, file, "train"))
            if "test" not in file:
                return dataset
            queries = _read(h5py, file, "test")
            neighbours = _read(h5py, file, "neighbors") if "neighbors" in file else None
            distance = file.attrs.get("distance", "euclidean")
    except InvalidInput:
        raise
    except (OSError, KeyError, RuntimeError, MemoryError, TypeError, ValueError) as error:
        raise BadDataset(f"{path} cannot be read as HDF5: {error!s:.200}") from None
    if isinstance(distance, bytes):
        distance = distance.decode(errors="replace")
    given = _given(dataset.descriptors, queries, neighbours, str(distance))
    return Dataset(**{**vars(dataset), "given": given})


def _given(
    descriptors: NDArray[np.float32],
    queries: NDArray[Any],
    neighbours: NDArray[Any] | None,
    distance: str,
) -> Given:
    queries = as_descriptors(queries, descriptors.shape[1])
    check_finite(queries)
    if len(queries) == 0:
        raise InvalidInput("`test` has no rows")
    if distance not in _DISTANCES:
        raise InvalidInput(
            f"the attribute `distance` must be one of {', '.join(_DISTANCES)}, got {distance!r:.80}"
        )
    if neighbours is not None:
        n = len(descriptors)
        if (
            neighbours.dtype.kind not in "iu"
            or neighbours.ndim != 2
            or len(neighbours) != len(queries)
            or neighbours.shape[1] == 0
        ):
            raise InvalidInput(
                f"`neighbors` must be integers of shape ({len(queries)}, k), got "
                f"{neighbours.dtype} {neighbours.shape}"
            )
        if neighbours.min() < 0 or neighbours.max() >= n:
            raise InvalidInput(
                f"`neighbors` must be rows of `train`, from 0 to {n - 1}, got "
                f"{neighbours.min()} to {neighbours.max()}"
            )
        neighbours = neighbours.astype(np.intp)
        ordered = np.sort(neighbours, axis=1)
        if (twice := (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)).any():
            raise InvalidInput(f"row {twice.argmax()} of `neighbors` has an item twice")
    return Given(np.asarray(queries, np.float32), neighbours, _DISTANCES[distance])


def _read(h5py: Any, file: Any, key: str) -> NDArray[Any]:
    """Return a dataset of the file, after checking that its values are in the file."""
    if key not in file:
        raise InvalidInput(f"there is no dataset {key!r} in the file; it has {sorted(file)!s:.200}")
    is_link = not isinstance(file.get(key, getlink=True), h5py.HardLink)
    if is_link or not isinstance(stored := file[key], h5py.Dataset):
        raise InvalidInput(f"{key!r} must be a dataset, not a group or a link")
    if stored.is_virtual or stored.external:
        raise InvalidInput(f"the values of {key!r} are in other files, which are not read")
    if stored.dtype.kind not in "fiu" or stored.ndim != 2:
        raise InvalidInput(
            f"{key!r} must be numbers of shape (n, d), got {stored.dtype} {stored.shape}"
        )
    size = stored.id.get_storage_size()
    if stored.nbytes > MOST_INFLATED * size or size > Path(file.filename).stat().st_size:
        raise InvalidInput(
            f"{key!r} says that it has shape {stored.shape}; {size} bytes are stored for it"
        )
    values: NDArray[Any] = stored[()]
    return values
