"""A collection's arrays in files: the process of a job must not open the database."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.datasets.dataset import Dataset
from app.jobs.kind import Progress

_NAMES = ("ids", "labels", "descriptors")
Batch = tuple[list[str], NDArray[np.int64], NDArray[Any]]
"""Ids, labels (-1 for none) and descriptors of some items."""


def write_arrays(batches: Iterable[Batch], size: int, folder: Path, progress: Progress) -> None:
    """Write the items of a collection to one file per array, each batch as an npy of its own.

    Parameters
    ----------
    batches : iterable of (ids, labels, descriptors)
    size : int
        Number of items, for `progress`.
    folder : Path
    progress : callable
        Called before each batch; if it raises, the writing ends.
    """
    written = 0
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{name}.npy").open("wb")) for name in _NAMES]
        for ids, labels, descriptors in batches:
            progress(
                written, max(size, 1), f"copying the collection: {written:,} of {size:,} items"
            )
            arrays: list[NDArray[Any]] = [np.array(ids), labels, descriptors]
            for file, array in zip(files, arrays, strict=True):
                np.save(file, array, allow_pickle=False)
            written += len(ids)


def read_arrays(name: str, folder: Path) -> Dataset:
    """Return what `write_arrays` wrote, as a dataset with the name of the collection."""
    ids, labels, descriptors = (
        np.concatenate(_read_batches(folder / f"{array}.npy")) for array in _NAMES
    )
    return Dataset(name, descriptors.astype(np.float32), labels, ids)


def _read_batches(path: Path) -> list[NDArray[Any]]:
    size, batches = path.stat().st_size, []
    with path.open("rb") as file:
        while file.tell() < size:
            batches.append(np.load(file, allow_pickle=False))
    return batches
