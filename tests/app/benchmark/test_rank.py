"""Rankings with ties, against sorting and against all orders of the tied items."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.benchmark.rank import (
    cosine_distances,
    nearest,
    rank_by_neighbours,
    rank_codes,
    rank_euclidean,
)
from bitcodes import hamming, pack


def orders(distances: NDArray[Any]) -> list[tuple[int, ...]]:
    """All orders of the items that are sorted by distance."""
    return [
        order
        for order in permutations(range(len(distances)))
        if (np.diff(distances[list(order)]) >= 0).all()
    ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3))
def test_relevant_in_first_is_the_mean_over_all_orders(seed: int, m: int, n_bits: int) -> None:
    rng = np.random.default_rng(seed)
    query = pack(rng.normal(size=(1, n_bits)))
    db = pack(rng.normal(size=(m, n_bits)))
    labels = rng.integers(0, 2, m)
    neighbours = rng.choice(m, rng.integers(1, m + 1), replace=False)
    distances = hamming(query, db)[0].astype(int)
    by_label, by_neighbours = rank_codes(query, np.array([1]), db, labels, [neighbours])
    is_neighbour = np.isin(np.arange(m), neighbours)
    ranks = np.arange(m + 3)
    for ranking, relevant in ((by_label, labels == 1), (by_neighbours, is_neighbour)):
        expected = np.mean(
            [[relevant[list(order)][:k].sum() for k in ranks] for order in orders(distances)],
            axis=0,
        )
        np.testing.assert_allclose(ranking.relevant_in_first(ranks)[0], expected, atol=1e-12)
    for radius in range(n_bits + 1):
        near = distances <= radius
        items, relevant_items = by_label.within(radius)
        assert items[0] == near.sum()
        assert relevant_items[0] == (near & (labels == 1)).sum()


def test_without_ties_euclidean_counts_are_those_of_sorting() -> None:
    rng = np.random.default_rng(0)
    queries, db = rng.normal(size=(5, 4)), rng.normal(size=(300, 4))
    labels = rng.integers(0, 3, 300)
    ranks = np.array([1, 10, 299, 300])
    for query, ranking in zip(
        queries, rank_euclidean(queries, np.arange(5) % 3, db, labels), strict=True
    ):
        order = np.argsort(((db - query) ** 2).sum(axis=1))
        label = int(np.flatnonzero((queries == query).all(axis=1))[0]) % 3
        found = (labels[order] == label).cumsum()[ranks - 1]
        np.testing.assert_array_equal(ranking.relevant_in_first(ranks)[0], found)


def test_nearest_finds_the_items_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    queries, db = rng.normal(size=(7, 4)), rng.normal(size=(300, 4))
    for query, found in zip(queries, nearest(queries, db, 20), strict=True):
        order = np.argsort(((db - query) ** 2).sum(axis=1))
        assert set(found) == set(order[:20])
    assert [sorted(found) for found in nearest(queries, db[:3], 20)] == [[0, 1, 2]] * 7


def test_all_items_at_the_distance_of_the_kth_neighbour_are_neighbours() -> None:
    rng = np.random.default_rng(0)
    # Small integers with an integer mean: many distances are equal, exactly.
    db = rng.integers(-2, 3, (60, 2)).astype(float)
    db = np.concatenate([db, -db])
    queries = rng.integers(-2, 3, (9, 2)).astype(float)
    for query, found in zip(queries, nearest(queries, db, 10), strict=True):
        distances = ((db - query) ** 2).sum(axis=1)
        farthest = np.sort(distances)[9]
        assert sorted(found) == np.flatnonzero(distances <= farthest).tolist()


def test_cosine_ranks_by_angle_and_leaves_zero_vectors_between() -> None:
    rng = np.random.default_rng(0)
    queries, db = rng.normal(1, 1, (5, 4)), rng.normal(1, 1, (50, 4))
    db *= rng.uniform(0.1, 10, (50, 1))  # the length does not matter
    db[7] = 0
    ((_, distances),) = cosine_distances(queries, db)
    for query, row in zip(queries, distances, strict=True):
        for item, distance in zip(db, row, strict=True):
            # cdist has NaN for a zero vector, which has no angle.
            expected = -float(query @ item) / float(np.linalg.norm(query)) if item.any() else 0.0
            expected /= float(np.linalg.norm(item)) or 1.0
            assert distance * 1e-13 == pytest.approx(expected, abs=1e-12)
    doubled = np.concatenate([db, 2 * db])
    ((_, twice),) = cosine_distances(queries, doubled)
    np.testing.assert_array_equal(twice[:, :50], twice[:, 50:])


def test_rankings_by_neighbours_count_them() -> None:
    rng = np.random.default_rng(0)
    queries, db = rng.normal(size=(6, 4)), rng.normal(size=(200, 4))
    near = [rng.choice(200, 30, replace=False) for _ in queries]
    found = rank_by_neighbours(cosine_distances(queries, db), near)
    for query, own, ranking in zip(queries, near, found, strict=True):
        order = np.argsort(-(db / np.linalg.norm(db, axis=1)[:, None]) @ query)
        expected = np.isin(order[:50], own).sum()
        assert ranking.relevant_in_first(np.array([50]))[0, 0] == expected
