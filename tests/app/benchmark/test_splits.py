from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from app.benchmark.splits import RETRIEVAL, UNSEEN, UNSEEN_ONLY, Protocol, describe, split
from app.datasets.dataset import Dataset
from hashing import InvalidInput

LABELS = np.random.default_rng(0).permutation(np.repeat([-1, 3, 5, 9], [40, 1000, 700, 650]))


def test_large_classes_keep_the_numbers_asked_for() -> None:
    parts = split(LABELS, Protocol(), 1)
    assert sorted([*parts.queries, *parts.database]) == list(range(len(LABELS)))
    assert np.unique(LABELS[parts.queries], return_counts=True)[1].tolist() == [100] * 3
    labelled = parts.y >= 0
    np.testing.assert_array_equal(parts.y[labelled], LABELS[parts.database][labelled])
    assert np.unique(parts.y[labelled], return_counts=True)[1].tolist() == [200] * 3
    assert "scaled" not in describe(Protocol(), LABELS, [1])


def test_small_classes_scale_the_numbers_down_and_the_report_says_so() -> None:
    few = LABELS[LABELS >= 0][:600]
    smallest = np.unique(few, return_counts=True)[1].min()
    report = describe(Protocol(), few, [0])
    used = report["queries_per_class"], report["labels_per_class"]
    assert used == (smallest * 100 // 600, smallest * 200 // 600)
    assert f"the smallest class has {smallest} items" in report["scaled"]
    assert report["asked"] == {"queries_per_class": 100, "labels_per_class": 200}
    parts = split(few, Protocol(), 0)
    assert np.unique(few[parts.queries], return_counts=True)[1].tolist() == [used[0]] * 3
    labelled = parts.y[parts.y >= 0]
    assert np.unique(labelled, return_counts=True)[1].tolist() == [used[1]] * 3


def test_unseen_classes_give_all_queries_and_no_label() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 700))
    parts = split(labels, Protocol(UNSEEN), 4)
    assert len(parts.unseen) == 3
    assert set(labels[parts.queries]) == set(parts.unseen)
    assert len(parts.queries) == 300
    assert set(parts.y) == {-1} | set(range(10)) - set(parts.unseen)
    assert set(labels[parts.database]) == set(range(10))
    # Queries of the seen classes are in neither part.
    assert len(parts.database) == 7000 - 1000
    assert split(labels, Protocol(UNSEEN), 5).unseen != parts.unseen
    with pytest.raises(InvalidInput, match="at least 3 classes, got 2"):
        split(labels % 2, Protocol(UNSEEN), 0)


def test_unseen_only_keeps_seen_and_unseen_classes_apart() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(-1, 10), 700))
    parts = split(labels, Protocol(UNSEEN_ONLY), 4)
    unseen = set(parts.unseen)
    assert len(unseen) == 3
    assert set(labels[parts.queries]) == set(labels[parts.database]) == unseen
    assert set(labels[parts.training]) == set(range(-1, 10)) - unseen
    assert not set(parts.queries) & set(parts.database)
    assert (len(parts.queries), len(parts.database)) == (300, 1800)
    known = parts.y >= 0
    assert np.unique(parts.y[known], return_counts=True)[1].tolist() == [200] * 7
    np.testing.assert_array_equal(parts.y[known], labels[parts.training][known])
    # The same classes and queries as with all classes in the database.
    other = split(labels, Protocol(UNSEEN), 4)
    assert other.unseen == parts.unseen
    np.testing.assert_array_equal(other.queries, parts.queries)


def test_unseen_only_leaves_two_classes_on_either_side() -> None:
    for n_classes in (4, 5, 6):
        parts = split(np.arange(100 * n_classes) % n_classes, Protocol(UNSEEN_ONLY), 0)
        assert len(parts.unseen) == 2
        assert len(set(parts.y) - {-1}) == n_classes - 2
    with pytest.raises(InvalidInput, match="at least 4 classes, got 3"):
        split(np.arange(300) % 3, Protocol(UNSEEN_ONLY), 0)


def test_fit_sees_the_database_and_no_query() -> None:
    for name in (RETRIEVAL, UNSEEN):
        parts = split(LABELS, Protocol(name), 1)
        assert parts.training is parts.database


def test_every_class_gets_as_many_queries_however_large_it_is() -> None:
    """So the mean over queries is the mean over classes of the means of each: macro mAP."""
    labels = np.repeat([0, 1, 2], [40, 400, 4000])
    parts = split(labels, Protocol(queries_per_class=5, labels_per_class=10), 0)
    assert np.bincount(labels[parts.queries]).tolist() == [5, 5, 5]
    assert np.bincount(parts.y[parts.y >= 0]).tolist() == [10, 10, 10]


RARE = np.repeat(np.arange(10), 300)


@pytest.mark.parametrize(
    ("rare", "small", "left_out"),
    [
        ([4], [(10, 1, 1)], []),
        ([1], [], [10]),
        ([3, 12, 149], [(11, 2, 4), (12, 24, 49)], [10]),
        ([4] * 30, [(label, 1, 1) for label in range(10, 40)], []),
        ([1] * 3000, [], list(range(10, 3010))),
        ([150, 299], [], []),
    ],
)
def test_rare_classes_do_not_change_the_numbers_of_the_others(
    rare: list[int], small: list[tuple[int, int, int]], left_out: list[int]
) -> None:
    labels = np.append(RARE, np.repeat(np.arange(10, 10 + len(rare)), rare))
    report = describe(Protocol(), labels, [0], "class {}".format)
    smallest = min([300, *(size for size in rare if size >= 150)])
    n_queries, n_labels = smallest * 100 // 600, smallest * 200 // 600
    assert (report["queries_per_class"], report["labels_per_class"]) == (n_queries, n_labels)
    found = [(one["label"], one["queries"], one["labels"]) for one in report["small_classes"]]
    assert found == small
    assert [one["label"] for one in report["left_out"]] == left_out
    assert all(one["name"] == f"class {one['label']}" for one in report["left_out"])
    parts = split(labels, Protocol(), 0)
    queries = np.bincount(labels[parts.queries], minlength=10 + len(rare))
    known = np.bincount(parts.y[parts.y >= 0], minlength=10 + len(rare))
    assert queries[:10].tolist() == [n_queries] * 10
    assert known[:10].tolist() == [n_labels] * 10
    assert [(label, queries[label], known[label]) for label, *_ in small] == small
    assert not queries[left_out].any()
    assert not known[left_out].any()
    # Items of classes that are left out stay in the database.
    assert sorted([*parts.queries, *parts.database]) == list(range(len(labels)))


def test_unseen_classes_are_never_those_left_out() -> None:
    labels = np.append(np.repeat(np.arange(6), 100), np.repeat(np.arange(6, 40), 3))
    for name in (UNSEEN, UNSEEN_ONLY):
        parts = split(labels, Protocol(name), 0)
        assert max(parts.unseen) < 6
        assert parts.y.max() < 6
    only = split(labels, Protocol(UNSEEN_ONLY), 0)
    assert set(labels[only.database]) == set(only.unseen)
    assert set(range(6, 40)) < set(labels[only.training])


# Figures in the documentation rest on these splits of the digits.
DIGITS = {
    (RETRIEVAL, 0): "66bc13003959f714",
    (RETRIEVAL, 1): "882b6a1b4939b141",
    (UNSEEN, 0): "57b552fd3420a742",
    (UNSEEN, 1): "043ca8efae00dc15",
    (UNSEEN_ONLY, 0): "3c36d9d713dabb8b",
    (UNSEEN_ONLY, 1): "2d9609ad4ce75939",
}


def test_the_splits_of_the_digits_are_kept(digits: Dataset) -> None:
    for (name, seed), expected in DIGITS.items():
        parts = split(digits.labels, Protocol(name), seed)
        found = hashlib.sha256()
        for part in (parts.queries, parts.database, parts.training, parts.y):
            found.update(part.astype("<i8").tobytes())
        found.update(repr(parts.unseen).encode())
        assert found.hexdigest()[:16] == expected
    report = describe(Protocol(), digits.labels, [0])
    assert (report["queries_per_class"], report["labels_per_class"]) == (29, 58)
    assert report["small_classes"] == report["left_out"] == []


def test_a_seed_determines_the_split() -> None:
    first, again, other = (split(LABELS, Protocol(), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.queries, again.queries)
    np.testing.assert_array_equal(first.y, again.y)
    assert (first.queries != other.queries).any()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0] * 50, "at least 2 classes, got 1"),
        ([-1] * 50, "at least 2 classes, got 0"),
        ([0] * 50 + [7] * 3, "class 7 has 3"),
    ],
)
def test_too_few_classes_or_items_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        split(np.array(labels), Protocol(), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries_per_class": 0}, "queries_per_class must be from 1"),
        ({"labels_per_class": -1}, "labels_per_class must be from 1"),
        (
            {"name": "mine"},
            "no protocol 'mine'; there are retrieval-59k, unseen-cl",
        ),
    ],
)
def test_parameters_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Protocol(**change)
    with pytest.raises(InvalidInput, match="seed must be from 0"):
        split(LABELS, Protocol(), -1)
