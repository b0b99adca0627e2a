"""Datasets in `.npz` files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.datasets.dataset import BadDataset, Dataset
from app.datasets.vectors import check_npy
from hashing.labels import as_label_sets
from hashing.validation import (
    InvalidInput,
    as_descriptors,
    as_labels,
    as_privileged,
    check_finite,
)

_KEYS = (
    "descriptors",
    "labels",
    "ids",
    "class_names",
    "images",
    "mirror",
    "privileged",
    "privileged_mirror",
)
MOST_INFLATED = 1032
"""How many times larger deflate can make what it reads."""
# What zipfile and numpy raise on damaged files, and on encrypted ones.
_DAMAGED = (
    ValueError,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npz(path: Path, name: str, *, images: bool = False) -> Dataset:
    """Read a dataset from an `.npz` file.

    Parameters
    ----------
    path : Path
        A file with the array `descriptors`, and optionally the other attributes of `Dataset`.
        Labels that are strings are names of classes; a matrix of 0 and 1 says which classes each
        item has. Arrays of other names are not read.
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
            members = npz.zip.namelist()
            keys = [key for key in npz.files if f"{key}.npy" in members]
            if "descriptors" not in keys:
                raise BadDataset(f"{path} has no array 'descriptors'; it has {sorted(keys)}")
            used = [key for key in _KEYS if key in keys and (images or key != "images")]
            arrays = {key: _array(npz, key, path) for key in used}
    except BadDataset:
        raise
    except _DAMAGED:
        raise not_npz from None
    try:
        return from_arrays(name, arrays)
    except InvalidInput as error:
        raise BadDataset(f"{path}: {error}") from None


def _array(npz: Any, key: str, path: Path) -> NDArray[Any]:
    """Return an array of the file, after checking that its values are in the file."""
    member = npz.zip.getinfo(f"{key}.npy")
    try:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadDataset("it is compressed as numpy does not do it")
        if member.file_size > MOST_INFLATED * member.compress_size:
            raise BadDataset(
                f"{member.file_size} bytes cannot come from {member.compress_size} compressed ones"
            )
        with npz.zip.open(member) as file:
            check_npy(file, member.file_size)
    except BadDataset as error:
        raise BadDataset(f"{path}, array {key!r}: {error}") from None
    array: NDArray[Any] = npz[key]
    return array


def from_arrays(name: str, arrays: dict[str, NDArray[Any]]) -> Dataset:
    """Return the arrays of a file as a dataset; InvalidInput if one of them is not valid."""
    descriptors = as_descriptors(arrays["descriptors"])
    check_finite(descriptors)
    n, d = descriptors.shape
    labels, class_names, label_sets = _labels(arrays.get("labels"), arrays.get("class_names"), n)
    privileged = arrays.get("privileged")
    if privileged is not None:
        privileged = as_privileged(privileged, n)
    return Dataset(
        name=name,
        descriptors=np.asarray(descriptors, np.float32),
        labels=labels,
        ids=_ids(arrays.get("ids"), n),
        class_names=class_names,
        label_sets=label_sets,
        images=_images(arrays.get("images"), n),
        mirror=_mirror("mirror", arrays.get("mirror"), d, "dimensions"),
        privileged=privileged,
        privileged_mirror=_privileged_mirror(arrays.get("privileged_mirror"), privileged),
    )


def _labels(
    labels: NDArray[Any] | None, names: NDArray[Any] | None, n: int
) -> tuple[NDArray[np.int64], NDArray[np.str_] | None, NDArray[np.bool_] | None]:
    """Return integer labels, the names of the classes, and the labels if items have several.

    Strings are names, the empty one for no label. Without `names` they are numbered in sorted
    order.
    """
    if labels is None:
        labels = np.full(n, -1)
    elif labels.dtype.kind == "U":
        return *_numbered(labels, names, n), None
    elif labels.ndim == 2:
        sets = as_label_sets(labels, n)
        if names is not None and names.shape != (sets.shape[1],):
            raise InvalidInput(
                f"class_names must name each of the {sets.shape[1]} columns of the labels, got "
                f"shape {names.shape}"
            )
        return np.full(n, -1), None if names is None else names.astype(np.str_), sets
    elif labels.dtype.kind not in "iu":
        raise InvalidInput(f"labels must be integers or strings, got dtype {labels.dtype}")
    checked = as_labels(labels, n)
    return checked, None if names is None else _class_names(names, checked), None


def _numbered(
    labels: NDArray[np.str_], names: NDArray[Any] | None, n: int
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    used, numbers = np.unique(labels, return_inverse=True)
    if names is None:
        known = used[used != ""]
    else:
        known = _class_names(names, np.empty(0, np.int64))
        if len(np.unique(known)) < len(known):
            raise InvalidInput("class_names must differ if labels are names")
    position = {name: i for i, name in enumerate(known.tolist())} | {"": -1}
    if unknown := [name for name in used.tolist() if name not in position]:
        raise InvalidInput(f"class_names lack the label {unknown[0]!r:.80}")
    of_used = np.array([position[name] for name in used.tolist()], np.int64)
    return as_labels(of_used[numbers], n), known


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


def _class_names(names: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.str_]:
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
