from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.datasets.dataset import BadDataset
from app.datasets.npz import read_npz

NPY = b"\x93NUMPY\x01\x00v\x00" + b" " * 118
GOOD: dict[str, Any] = {"descriptors": np.eye(5, 3), "labels": np.array([0, 0, 1, 1, -1])}


def test_without_ids_the_items_are_numbered(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", **GOOD)
    dataset = read_npz(tmp_path / "good.npz", "good")
    assert dataset.ids.tolist() == ["0", "1", "2", "3", "4"]
    assert (dataset.class_names, dataset.images, dataset.mirror) == (None, None, None)


def test_labels_are_optional(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", descriptors=GOOD["descriptors"])
    assert read_npz(tmp_path / "plain.npz", "plain").labels.tolist() == [-1] * 5


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (None, [1, 0, 1, -1, 2], ["ant", "bee", "cow"]),
        (["cow", "dog", "bee", "ant"], [2, 3, 2, -1, 0], ["cow", "dog", "bee", "ant"]),
    ],
)
def test_labels_can_be_names_of_classes(
    names: list[str] | None, labels: list[int], expected: list[str], tmp_path: Path
) -> None:
    words = ["bee", "ant", "bee", "", "cow"]
    arrays: dict[str, Any] = {"descriptors": GOOD["descriptors"], "labels": words}
    if names is not None:
        arrays["class_names"] = names
    np.savez(tmp_path / "n.npz", **arrays)
    dataset = read_npz(tmp_path / "n.npz", "n")
    assert dataset.labels.tolist() == labels
    assert dataset.class_names is not None
    assert dataset.class_names.tolist() == expected
    found = [dataset.class_name(label) if label >= 0 else "" for label in dataset.labels.tolist()]
    assert found == words


def test_items_can_have_several_labels(tmp_path: Path) -> None:
    sets = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1], [0, 0, 1]])
    names = ["sky", "sea", "dog"]
    arrays = GOOD | {"labels": sets, "class_names": names}
    np.savez(tmp_path / "n.npz", **arrays)
    dataset = read_npz(tmp_path / "n.npz", "n")
    assert dataset.targets.tolist() == sets.astype(bool).tolist()
    assert dataset.labels.tolist() == [-1] * 5
    assert [dataset.names_of(i) for i in (0, 2, 3)] == ["sky, sea", "no label", "sky, dog"]
    with pytest.raises(BadDataset, match="items of n have several labels each; this needs one"):
        dataset.one_label_each("this")


def test_labels_that_are_all_empty_are_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "n.npz", descriptors=GOOD["descriptors"], labels=[""] * 5)
    assert read_npz(tmp_path / "n.npz", "n").labels.tolist() == [-1] * 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"descriptors": None}, r"no array 'descriptors'; it has .'labels'."),
        ({"descriptors": np.zeros(5)}, r"got \(5,\)"),
        ({"descriptors": np.full((5, 3), np.nan)}, "row 0, column 0 is nan"),
        ({"labels": np.zeros(4, int)}, "expected 5 labels"),
        ({"labels": np.zeros(5)}, "labels must be integers or strings, got dtype float64"),
        ({"labels": np.array([b"a"] * 5)}, "labels must be integers or strings, got dtype .S1"),
        ({"labels": list("abcd")}, "expected 5 labels"),
        ({"labels": [["a"]] * 5}, "expected 5 labels"),
        ({"labels": [[0, 1], [1, 2], [0, 0], [1, 1], [0, 1]]}, "row 1 has 2"),
        ({"labels": np.zeros((4, 2), int)}, r"expected 5 labels.* got shape \(4, 2\)"),
        ({"labels": np.zeros((5, 2), int), "class_names": ["x"]}, "each of the 2 columns"),
        ({"labels": list("xyxyz"), "class_names": ["x", "y"]}, "class_names lack the label 'z'"),
        ({"labels": list("xyxyz"), "class_names": ["x", "x"]}, "class_names must differ"),
        (
            {"labels": np.array([{}] * 5)},
            r"'labels': the array holds Python.*\.astype\(str\)",
        ),
        ({"ids": np.array(list("abcde"), object)}, "array 'ids': the array holds Python objects"),
        ({"ids": list("abcd")}, "expected 5 ids"),
        ({"ids": np.zeros(5)}, "ids must be strings or integers, got dtype float64"),
        ({"ids": list("abcda")}, "got 4 distinct ids for 5 items"),
        ({"images": np.zeros((5, 4, 4), np.uint8)}, "images must be uint8 of shape"),
        ({"class_names": ["zero"]}, "each label up to 1"),
        ({"mirror": [0, 1]}, "a permutation of the 3 dimensions"),
        ({"mirror": [0, 0, 1]}, "a permutation of the 3 dimensions"),
        ({"mirror": [0.0, 1.0, 2.0]}, "a permutation of the 3 dimensions"),
        ({"mirror": [[0, 1, 2]]}, "a permutation of the 3 dimensions"),
        ({"mirror": 0}, "a permutation of the 3 dimensions"),
        ({"privileged": np.zeros((4, 2))}, "expected 5 rows of privileged features"),
        ({"privileged": np.full((5, 2), np.inf)}, "row 0, column 0 is inf"),
        ({"privileged_mirror": [0]}, "privileged_mirror needs the array 'privileged'"),
        (
            {"privileged": np.zeros((5, 2)), "privileged_mirror": [0, 2]},
            "privileged_mirror must be a permutation of the 2 privileged features",
        ),
    ],
)
def test_bad_arrays_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    arrays = {key: value for key, value in (GOOD | change).items() if value is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(BadDataset, match=message):
        read_npz(tmp_path / "bad.npz", "bad", images=True)


@pytest.mark.parametrize("data", [b"", b"not a zip", pickle.dumps([1]), b"PK\x03\x04broken", NPY])
def test_files_of_other_formats_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(data)
    with pytest.raises(BadDataset, match="is not an npz file of plain arrays"):
        read_npz(tmp_path / "bad.npz", "bad")


def test_privileged_features_are_read_as_they_are(tmp_path: Path) -> None:
    privileged = np.array([[1, 2], [3, 4], [np.nan, np.nan], [5, 6], [7, 8]], np.float16)
    np.savez(tmp_path / "p.npz", **GOOD, privileged=privileged, privileged_mirror=[1, 0])
    dataset = read_npz(tmp_path / "p.npz", "p")
    np.testing.assert_array_equal(dataset.privileged, privileged)
    assert dataset.parameters("net-1") == {"privileged_mirror": [1, 0]}
    assert dataset.parameters("ksh") == {}
    alone = dataset.without_privileged()
    assert (alone.privileged, alone.parameters("net-1")) == (None, {})
    plain = tmp_path / "plain.npz"
    np.savez(plain, **GOOD)
    assert read_npz(plain, "plain").privileged is None
