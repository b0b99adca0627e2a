"""Rankings with ties, against sorting and against all orders of the tied items."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.benchmark.rank import nearest, rank_codes, rank_euclidean
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
    by_label, by_neighbours = rank_codes(query, np.array([1]), db, labels, neighbours[None])
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
    assert nearest(queries, db[:3], 20).shape == (7, 3)
