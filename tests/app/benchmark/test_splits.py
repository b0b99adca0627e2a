from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.benchmark.splits import RETRIEVAL, UNSEEN, UNSEEN_ONLY, Protocol, describe, split
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
