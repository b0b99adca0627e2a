"""The built-in dataset: 1,797 scans of handwritten digits, in `data/digits.csv.gz`."""

from __future__ import annotations

import gzip
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from app.datasets.dataset import Dataset
from hashing.gist import Gist


def read_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the 1,797 scans of handwritten digits and their labels.

    Returns
    -------
    images : (1797, 8, 8) uint8
        Grey, from 0 (paper) to 255 (ink). The file has 17 levels, 0 to 16.
    labels : (1797,) int64
        The digit in the image.
    """
    compressed = files("app.datasets").joinpath("data", "digits.csv.gz").read_bytes()
    lines = gzip.decompress(compressed).decode().splitlines()
    table = np.loadtxt(lines, np.int64, delimiter=",")
    images = table[:, :64].reshape(-1, 8, 8)
    return np.rint(images * (255 / 16)).astype(np.uint8), table[:, 64]


def load_digits() -> Dataset:
    """Return the digits as GIST descriptors, with RGB copies of the grey images."""
    images, labels = read_digits()
    return Dataset(
        name="digits",
        descriptors=Gist().transform(images),
        labels=labels,
        ids=np.array([f"digit-{i:04d}" for i in range(len(images))]),
        class_names=np.array([str(i) for i in range(10)]),
        images=np.repeat(images[..., None], 3, axis=3),
    )
