from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.datasets.catalog import UnknownDataset, known_datasets, load_dataset
from tests.app.datasets.test_npz import GOOD


def test_an_npz_is_loaded_by_path_and_by_name(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    path = tmp_path / "datasets" / "mine.npz"
    images = np.zeros((5, 4, 4, 3), np.uint8)
    np.savez(path, **GOOD, ids=list("abcde"), class_names=["x", "y"], images=images)
    for name in (str(path), "mine"):
        dataset = load_dataset(name, tmp_path)
        assert dataset.name == "mine"
        np.testing.assert_array_equal(dataset.descriptors, GOOD["descriptors"])
        np.testing.assert_array_equal(dataset.labels, GOOD["labels"])
        assert dataset.ids.tolist() == list("abcde")
        assert dataset.class_names is not None
        assert dataset.class_names.tolist() == ["x", "y"]
        assert dataset.images is None
    with_images = load_dataset("mine", tmp_path, images=True).images
    assert with_images is not None
    assert with_images.shape == (5, 4, 4, 3)
    assert known_datasets(tmp_path) == {"digits": Path(), "mine": path}


def test_an_unknown_dataset_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownDataset, match="no dataset 'mnist'; there are digits"):
        load_dataset("mnist", tmp_path)
    with pytest.raises(UnknownDataset, match="fetch it with `bitcell data cifar10`"):
        load_dataset("cifar10", tmp_path)
    with pytest.raises(UnknownDataset, match="there is no file"):
        load_dataset("nowhere.npz")
    with pytest.raises(UnknownDataset, match=r"no dataset '\.\./mine'"):
        load_dataset("../mine", tmp_path)
