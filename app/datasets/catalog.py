"""Datasets by name: the built-in one, those in the data directory, and files by path."""

from __future__ import annotations

from pathlib import Path

from app.datasets.dataset import Dataset
from app.datasets.digits import load_digits
from app.datasets.files import read_dataset

BUILT_IN = "digits"
UPLOADED = ".dataset"
"""How the names of uploaded files end: their format is recognised by their content."""


class UnknownDataset(ValueError):
    """There is no dataset of that name, or no file at that path."""


def load_dataset(name: str, data_dir: Path | None = None, *, images: bool = False) -> Dataset:
    """Load a dataset by name, or from the path of a file.

    Parameters
    ----------
    name : str
        `digits`; or X, for the file `datasets/X.npz` or `datasets/X.dataset` in the data directory;
        or the path of a file in one of the formats of `read_dataset`.
    data_dir : Path, optional
        The data directory.
    images : bool
        Whether to load the images too, if there are any. The digits always have theirs.

    Raises
    ------
    UnknownDataset
    BadDataset
    """
    if name == BUILT_IN:
        return load_digits()
    known = known_datasets(data_dir)
    if not name:
        raise UnknownDataset("expected the name of a dataset or the path of a file, got ''")
    path = known.get(name) or Path(name)
    if path.is_file():
        return read_dataset(path, path.stem, images=images)
    if path.is_dir():
        raise UnknownDataset(f"{name!r} is a folder; expected a dataset or the path of a file")
    if path.suffix:
        raise UnknownDataset(f"there is no file {name}")
    hint = ": fetch it with `bitcell data cifar10`" if name == "cifar10" else ""
    raise UnknownDataset(f"there is no dataset {name!r}{hint}; there are {', '.join(known)}")


def known_datasets(data_dir: Path | None) -> dict[str, Path]:
    """Map the name of each dataset to its file; the path of the built-in `digits` is empty."""
    folder = (data_dir or Path()) / "datasets"
    files = [path for end in (UPLOADED, ".npz") for path in folder.glob(f"*{end}") if data_dir]
    # If a name has two files, the one that somebody put there counts.
    found = {path.name.removesuffix(path.suffix): path for path in files}
    return {BUILT_IN: Path(), **dict(sorted(found.items()))}
