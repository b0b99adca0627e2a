from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.datasets.dataset import BadDataset, Dataset
from app.datasets.npz import read_npz
from hashing.gist import Gist


def test_methods_that_take_a_mirror_get_it(tmp_path: Path, digits: Dataset) -> None:
    mirror = np.array([1, 0, 2])
    np.savez(tmp_path / "m.npz", descriptors=np.eye(3), labels=np.zeros(3, np.int64), mirror=mirror)
    dataset = read_npz(tmp_path / "m.npz", "m")
    assert dataset.parameters("net-2") == {"mirror": [1, 0, 2]}
    assert dataset.parameters("lsh") == {}
    assert digits.parameters("net-2") == {}


def test_the_mirror_of_gist_requires_the_dimension_of_gist(digits: Dataset) -> None:
    mirrored = digits.with_mirror("gist")
    np.testing.assert_array_equal(mirrored.mirror, Gist().mirror)
    small = Dataset(
        "m", np.eye(3, dtype=np.float32), np.zeros(3, np.int64), np.array(["0", "1", "2"])
    )
    with pytest.raises(BadDataset, match="GIST has 384 dimensions, m has 3"):
        small.with_mirror("gist")
    with pytest.raises(BadDataset, match="mirror must be `gist`, got 'x'"):
        small.with_mirror("x")
