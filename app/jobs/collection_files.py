"""A collection for the process of a job, which must not open the record: arrays in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.datasets.dataset import Dataset

if TYPE_CHECKING:
    from index import Collection

_ARRAYS = ("ids", "labels", "descriptors")


def write(collection: Collection, folder: Path) -> None:
    """Write what a collection keeps, a part at a time: of each array one npy after the other."""
    files = [(folder / f"{name}.npy").open("wb") for name in _ARRAYS]
    try:
        for ids, labels, descriptors in collection.descriptor_batches():
            arrays: list[NDArray[Any]] = [np.array(ids), labels, descriptors]
            for file, array in zip(files, arrays, strict=True):
                np.save(file, array, allow_pickle=False)
    finally:
        for file in files:
            file.close()


def read(name: str, folder: Path) -> Dataset:
    """What `write` has written, under the name of the collection."""
    ids, labels, descriptors = (np.concatenate(_parts(folder / f"{one}.npy")) for one in _ARRAYS)
    return Dataset(name, descriptors.astype(np.float32), labels, ids)


def _parts(path: Path) -> list[NDArray[Any]]:
    size, parts = path.stat().st_size, []
    with path.open("rb") as file:
        while file.tell() < size:
            parts.append(np.load(file, allow_pickle=False))
    return parts
