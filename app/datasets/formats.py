"""Datasets: descriptors with labels, by name or from an `.npz`."""

from __future__ import annotations

import gzip
import importlib.util
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing import HASHERS
from hashing.estimator import parameters
from hashing.gist import Gist
from hashing.validation import InvalidInput, as_descriptors, as_labels, check_finite


class UnknownDataset(ValueError):
    """No dataset has that name, and no file that path."""


class BadDataset(ValueError):
    """A file that is no dataset; says what was expected."""


@dataclass(frozen=True)
class Dataset:
    """Descriptors with labels.

    Attributes
    ----------
    name : str
    descriptors : (n, d) float32
    labels : (n,) int64
        -1 for an item without a label.
    ids : (n,) str
    class_names : (c,) str, or None
        The name of class i.
    images : (n, h, w, 3) uint8, or None
    mirror : (d,) intp, or None
        ``descriptors[:, mirror]`` are those of the mirror images.
    """

    name: str
    descriptors: NDArray[np.float32]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    class_names: NDArray[np.str_] | None = None
    images: NDArray[np.uint8] | None = None
    mirror: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.descriptors)

    def parameters(self, method: str) -> dict[str, Any]:
        """What is known of these descriptors that a method has a parameter for."""
        if self.mirror is None or "mirror" not in parameters(HASHERS[method]):
            return {}
        return {"mirror": self.mirror.tolist()}

    def mirrored_as(self, kind: str) -> Dataset:
        """The same, with the mirror of `gist`, as `bitcell gist` describes images."""
        if kind != "gist":
            raise BadDataset(f"mirror must be `gist`, got {kind!r}")
        mirror = Gist().mirror
        if len(mirror) != self.descriptors.shape[1]:
            raise BadDataset(
                f"GIST has {len(mirror)} dimensions, {self.name} has {self.descriptors.shape[1]}"
            )
        return replace(self, mirror=mirror)


def load_dataset(name: str, data_dir: Path | None = None, *, images: bool = False) -> Dataset:
    """A dataset by name, or from a path that ends in `.npz`.

    Parameters
    ----------
    name : str
        `digits`; or X, for the file X.npz in `data_dir`'s folder `datasets`; or a path to a file.
    data_dir : Path, optional
        Where Bitcell keeps its data.
    images : bool
        Whether to read the images too, where there are any.

    Raises
    ------
    UnknownDataset
    BadDataset
    """
    if name.endswith(".npz"):
        path = Path(name)
        if not path.is_file():
            raise UnknownDataset(f"there is no file {name}")
        return read_npz(path, path.stem, images=images)
    if name == "digits":
        return _digits()
    known = known_datasets(data_dir)
    if name not in known:
        hint = ": fetch it with `bitcell data cifar10`" if name == "cifar10" else ""
        raise UnknownDataset(f"there is no dataset {name!r}{hint}; there are {', '.join(known)}")
    return read_npz(known[name], name, images=images)


def known_datasets(data_dir: Path | None) -> dict[str, Path]:
    """The datasets that can be named, with the files of those that are not built in."""
    files = sorted((data_dir / "datasets").glob("*.npz")) if data_dir else []
    return {"digits": Path(), **{path.stem: path for path in files}}


def read_npz(path: Path, name: str, *, images: bool = False) -> Dataset:
    """A dataset from an `.npz` with `descriptors`, `labels` and optionally the other arrays.

    Raises
    ------
    BadDataset
        Something is missing, of the wrong shape or kind, or not finite. Nothing is unpickled.
    """
    wrong = BadDataset(f"{path} is no npz of plain arrays, as numpy.savez writes them")
    if not zipfile.is_zipfile(path):
        raise wrong
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
            arrays = {key: npz[key] for key in npz.files if images or key != "images"}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        raise wrong from None
    for key in ("descriptors", "labels"):
        if key not in arrays:
            raise BadDataset(f"{path} has no array {key!r}; it has {sorted(arrays)}")
    try:
        return _dataset(name, arrays)
    except InvalidInput as error:
        raise BadDataset(f"{path}: {error}") from None


def _dataset(name: str, arrays: dict[str, NDArray[Any]]) -> Dataset:
    descriptors = as_descriptors(arrays["descriptors"])
    n = len(descriptors)
    check_finite(descriptors)
    ids = arrays.get("ids", np.arange(n))
    if ids.dtype.kind not in "Uiu":
        raise InvalidInput(f"ids must be strings or integers, got dtype {ids.dtype}")
    ids = ids.astype(np.str_)
    if ids.shape != (n,):
        raise InvalidInput(f"expected {n} ids, one a descriptor, got shape {ids.shape}")
    images = arrays.get("images")
    if images is not None and (
        images.dtype != np.uint8 or images.ndim != 4 or images.shape[::3] != (n, 3)
    ):
        raise InvalidInput(
            f"images must be uint8 of shape ({n}, h, w, 3), got {images.dtype} {images.shape}"
        )
    if len(np.unique(ids)) < n:
        raise InvalidInput(f"ids must differ; of {n} only {len(np.unique(ids))} do")
    names = arrays.get("class_names")
    labels = as_labels(arrays["labels"], n)
    if names is not None and (names.ndim != 1 or len(names) <= labels.max(initial=-1)):
        raise InvalidInput(
            f"class_names must name each label up to {labels.max()}, got shape {names.shape}"
        )
    mirror = arrays.get("mirror")
    d = descriptors.shape[1]
    if mirror is not None and (
        mirror.dtype.kind not in "iu" or not np.array_equal(np.sort(mirror), np.arange(d))
    ):
        raise InvalidInput(f"mirror must name each of the {d} dimensions once")
    return Dataset(
        name=name,
        descriptors=np.asarray(descriptors, np.float32),
        labels=labels,
        ids=ids,
        class_names=None if names is None else names.astype(np.str_),
        images=images,
        mirror=None if mirror is None else mirror.astype(np.intp),
    )


def read_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The 1,797 scans of handwritten digits that scikit-learn ships, and what they show.

    The file is read as it lies in the installed package: importing scikit-learn for it would
    cost a serving process some 100 MB.

    Returns
    -------
    images : (1797, 8, 8) uint8
        Grey, 0 (paper) to 255 (ink).
    labels : (1797,) int64
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise UnknownDataset("the digits come with scikit-learn, which is not installed")
    path = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, np.int64, delimiter=",")
    images = table[:, :64].reshape(-1, 8, 8)
    return np.rint(images * (255 / 16)).astype(np.uint8), table[:, 64]


def _digits() -> Dataset:
    images, labels = read_digits()
    return Dataset(
        name="digits",
        descriptors=Gist().transform(images),
        labels=labels,
        ids=np.array([f"digit-{i:04d}" for i in range(len(images))]),
        class_names=np.array([str(i) for i in range(10)]),
        images=np.repeat(images[..., None], 3, axis=3),
    )
