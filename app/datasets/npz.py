"""Datasets in `.npz` files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.datasets.dataset import BadDataset, Dataset
from hashing.validation import (
    InvalidInput,
    as_descriptors,
    as_labels,
    as_privileged,
    check_finite,
)


def read_npz(path: Path, name: str, *, images: bool = False) -> Dataset:
    """Read a dataset from an `.npz` file.

    Parameters
    ----------
    path : Path
        A file with the arrays `descriptors` and `labels`, and optionally the other attributes
        of `Dataset`.
    name : str
        The name of the dataset.
    images : bool
        Whether to read the images, if the file has any.

    Raises
    ------
    BadDataset
        An array is missing, has the wrong shape or dtype, or is not finite. Nothing is unpickled.
    """
    not_npz = BadDataset(f"{path} is not an npz file of plain arrays, as numpy.savez writes them")
    if not zipfile.is_zipfile(path):
        raise not_npz
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
            arrays = {key: npz[key] for key in npz.files if images or key != "images"}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        raise not_npz from None
    for key in ("descriptors", "labels"):
        if key not in arrays:
            raise BadDataset(f"{path} has no array {key!r}; it has {sorted(arrays)}")
    try:
        return _dataset(name, arrays)
    except InvalidInput as error:
        raise BadDataset(f"{path}: {error}") from None


def _dataset(name: str, arrays: dict[str, NDArray[Any]]) -> Dataset:
    descriptors = as_descriptors(arrays["descriptors"])
    check_finite(descriptors)
    n, d = descriptors.shape
    labels = as_labels(arrays["labels"], n)
    privileged = arrays.get("privileged")
    if privileged is not None:
        privileged = as_privileged(privileged, n)
    return Dataset(
        name=name,
        descriptors=np.asarray(descriptors, np.float32),
        labels=labels,
        ids=_ids(arrays.get("ids"), n),
        class_names=_class_names(arrays.get("class_names"), labels),
        images=_images(arrays.get("images"), n),
        mirror=_mirror("mirror", arrays.get("mirror"), d, "dimensions"),
        privileged=privileged,
        privileged_mirror=_privileged_mirror(arrays.get("privileged_mirror"), privileged),
    )


def _ids(ids: NDArray[Any] | None, n: int) -> NDArray[np.str_]:
    if ids is None:
        return np.arange(n).astype(np.str_)
    if ids.dtype.kind not in "Uiu":
        raise InvalidInput(f"ids must be strings or integers, got dtype {ids.dtype}")
    if ids.shape != (n,):
        raise InvalidInput(f"expected {n} ids, one per descriptor, got shape {ids.shape}")
    ids = ids.astype(np.str_)
    if (distinct := len(np.unique(ids))) < n:
        raise InvalidInput(f"ids must be unique, got {distinct} distinct ids for {n} items")
    return ids


def _class_names(names: NDArray[Any] | None, labels: NDArray[np.int64]) -> NDArray[np.str_] | None:
    if names is None:
        return None
    largest = labels.max(initial=-1)
    if names.ndim != 1 or len(names) <= largest:
        raise InvalidInput(
            f"class_names must name each label up to {largest}, got shape {names.shape}"
        )
    return names.astype(np.str_)


def _images(images: NDArray[Any] | None, n: int) -> NDArray[np.uint8] | None:
    if images is not None and (
        images.dtype != np.uint8 or images.ndim != 4 or images.shape[::3] != (n, 3)
    ):
        raise InvalidInput(
            f"images must be uint8 of shape ({n}, h, w, 3), got {images.dtype} {images.shape}"
        )
    return images


def _mirror(key: str, mirror: NDArray[Any] | None, d: int, columns: str) -> NDArray[np.intp] | None:
    if mirror is None:
        return None
    if (
        mirror.dtype.kind not in "iu"
        or mirror.shape != (d,)
        or not np.array_equal(np.sort(mirror), np.arange(d))
    ):
        raise InvalidInput(f"{key} must be a permutation of the {d} {columns}")
    return mirror.astype(np.intp)


def _privileged_mirror(
    mirror: NDArray[Any] | None, privileged: NDArray[Any] | None
) -> NDArray[np.intp] | None:
    if mirror is not None and privileged is None:
        raise InvalidInput("privileged_mirror needs the array 'privileged'")
    d = 0 if privileged is None else privileged.shape[1]
    return _mirror("privileged_mirror", mirror, d, "privileged features")
