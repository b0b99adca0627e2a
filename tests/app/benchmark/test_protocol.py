from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.benchmark.protocol import Retrieval, split
from hashing import InvalidInput

LABELS = np.random.default_rng(0).permutation(np.repeat([-1, 3, 5, 9], [40, 1000, 700, 650]))


def test_numbers_are_kept_where_there_is_enough() -> None:
    parts = split(LABELS, Retrieval(seed=1))
    assert sorted([*parts.queries, *parts.database]) == list(range(len(LABELS)))
    assert np.unique(LABELS[parts.queries], return_counts=True)[1].tolist() == [100] * 3
    shown = parts.y >= 0
    np.testing.assert_array_equal(parts.y[shown], LABELS[parts.database][shown])
    assert np.unique(parts.y[shown], return_counts=True)[1].tolist() == [200] * 3
    assert "scaled" not in parts.protocol


def test_numbers_are_scaled_where_there_is_not_and_the_result_says_so() -> None:
    parts = split(LABELS[LABELS >= 0][:600], Retrieval())
    smallest = np.unique(LABELS[LABELS >= 0][:600], return_counts=True)[1].min()
    used = parts.protocol["queries_per_class"], parts.protocol["labels_per_class"]
    assert used == (smallest * 100 // 600, smallest * 200 // 600)
    assert f"the smallest class has {smallest} items" in parts.protocol["scaled"]
    assert parts.protocol["asked"] == {"queries_per_class": 100, "labels_per_class": 200}


def test_a_seed_is_a_split() -> None:
    one, again, other = (split(LABELS, Retrieval(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.queries, again.queries)
    np.testing.assert_array_equal(one.y, again.y)
    assert (one.queries != other.queries).any()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0] * 50, "two classes or more, got 1"),
        ([-1] * 50, "two classes or more, got 0"),
        ([0] * 50 + [7] * 3, "class 7 has 3"),
    ],
)
def test_too_little_is_refused(labels: list[int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        split(np.array(labels), Retrieval())


@pytest.mark.parametrize(
    "change", [{"queries_per_class": 0}, {"labels_per_class": -1}, {"seed": 1.5}, {"seed": -1}]
)
def test_numbers_are_checked(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(change))):
        Retrieval(**change)
