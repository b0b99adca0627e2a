from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from app.datasets.formats import (
    BadDataset,
    Dataset,
    UnknownDataset,
    load_dataset,
    read_digits,
)

NPY = b"\x93NUMPY\x01\x00v\x00" + b" " * 118
GOOD: dict[str, Any] = {"descriptors": np.eye(5, 3), "labels": np.array([0, 0, 1, 1, -1])}


def test_digits_are_those_of_scikit_learn() -> None:
    images, labels = read_digits()
    truth = load_digits()
    np.testing.assert_array_equal(labels, truth.target)
    np.testing.assert_allclose(images / (255 / 16), truth.images, atol=0.5 / (255 / 16))


def test_digits_are_a_dataset(digits: Dataset) -> None:
    assert digits.descriptors.shape == (1797, 384)
    assert digits.descriptors.dtype == np.float32
    assert len(set(digits.ids)) == 1797


def test_an_npz_is_a_dataset_by_path_and_by_name(tmp_path: Path) -> None:
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


def test_unknown_datasets_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UnknownDataset, match="no dataset 'mnist'; there are digits"):
        load_dataset("mnist", tmp_path)
    with pytest.raises(UnknownDataset, match="fetch it with `bitcell data cifar10`"):
        load_dataset("cifar10", tmp_path)
    with pytest.raises(UnknownDataset, match="there is no file"):
        load_dataset("nowhere.npz")
    with pytest.raises(UnknownDataset, match=r"no dataset '\.\./mine'"):
        load_dataset("../mine", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"descriptors": None}, r"no array 'descriptors'; it has .'labels'."),
        ({"labels": None}, r"no array 'labels'"),
        ({"descriptors": np.zeros(5)}, r"got \(5,\)"),
        ({"descriptors": np.full((5, 3), np.nan)}, "row 0, column 0 is nan"),
        ({"labels": np.zeros(4, int)}, "expected 5 labels"),
        ({"labels": np.zeros(5)}, "labels must be integers"),
        ({"ids": list("abcd")}, "expected 5 ids"),
        ({"images": np.zeros((5, 4, 4), np.uint8)}, "images must be uint8 of shape"),
        ({"labels": np.array([{}] * 5)}, "plain arrays"),
        ({"ids": list("abcda")}, "of 5 only 4 do"),
        ({"class_names": ["zero"]}, "each label up to 1"),
    ],
)
def test_bad_files_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    arrays = {key: value for key, value in (GOOD | change).items() if value is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(BadDataset, match=message):
        load_dataset(str(tmp_path / "bad.npz"), images=True)


@pytest.mark.parametrize("data", [b"", b"not a zip", pickle.dumps([1]), b"PK\x03\x04broken", NPY])
def test_files_that_are_no_npz_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(data)
    with pytest.raises(BadDataset, match="is no npz of plain arrays"):
        load_dataset(str(tmp_path / "bad.npz"))


def test_mirror_is_read_and_given_to_the_methods_that_have_it(tmp_path: Path) -> None:
    mirror = np.array([1, 0, 2])
    np.savez(tmp_path / "m.npz", descriptors=np.eye(3), labels=np.zeros(3, np.int64), mirror=mirror)
    dataset = load_dataset(str(tmp_path / "m.npz"))
    assert dataset.parameters("net-2") == {"mirror": [1, 0, 2]}
    assert dataset.parameters("lsh") == {}
    assert load_dataset("digits").parameters("net-2") == {}


@pytest.mark.parametrize("mirror", [[0, 1], [0, 0, 1], [0.0, 1.0, 2.0], [[0, 1, 2]]])
def test_a_mirror_that_is_no_permutation_is_refused(tmp_path: Path, mirror: list[Any]) -> None:
    np.savez(tmp_path / "m.npz", descriptors=np.eye(3), labels=np.zeros(3, int), mirror=mirror)
    with pytest.raises(BadDataset, match="mirror must name each of the 3 dimensions once"):
        load_dataset(str(tmp_path / "m.npz"))


def test_mirror_of_gist_needs_the_dimension_of_gist(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", descriptors=np.eye(3), labels=np.zeros(3, np.int64))
    dataset = load_dataset(str(tmp_path / "m.npz"))
    with pytest.raises(BadDataset, match="GIST has 384 dimensions, m has 3"):
        dataset.mirrored_as("gist")
    with pytest.raises(BadDataset, match="mirror must be `gist`, got 'x'"):
        dataset.mirrored_as("x")
