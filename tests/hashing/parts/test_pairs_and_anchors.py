"""Pairs drawn from labels, and anchors: sampled rows, k-means, distances, similarities."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from hashing import InvalidInput
from hashing.arrays import NotFinite
from hashing.parts.anchors import kmeans, rbf, sample, squared_distances
from hashing.parts.pairs import sample_pairs

Y = np.array([4, -1, 7, 4, 4, -1, 7, 9])


def test_pairs_are_uniform_over_all_pairs_of_their_kind() -> None:
    n = 100_000
    kinds = sample_pairs(Y, n, np.random.default_rng(0))
    for drawn, same in zip(kinds, (True, False), strict=True):
        expected = [
            (i, j)
            for i, j in permutations(range(len(Y)), 2)
            if Y[i] >= 0 and Y[j] >= 0 and (Y[i] == Y[j]) == same
        ]
        found, counts = np.unique(drawn, axis=0, return_counts=True)
        assert [tuple(pair) for pair in found.tolist()] == sorted(expected)
        share = 1 / len(expected)
        assert np.all(np.abs(counts / n - share) < 5 * np.sqrt(share / n))


@pytest.mark.parametrize(
    ("y", "message"),
    [([-1, -1], "two classes are needed, got 0"), ([3, 3], "got 1"), ([1, 2, -1], "has one")],
)
def test_too_few_labels_are_refused(y: list[int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        sample_pairs(np.array(y), 3, np.random.default_rng(0))


def test_distances_and_similarities_agree_with_scipy(X: NDArray[Any]) -> None:
    anchors = sample(X, 30, np.random.default_rng(0))
    expected = cdist(X[:100], anchors, "sqeuclidean")
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-9)):
        block: Any = X[:100].astype(dtype)
        distances = squared_distances(block, anchors)
        assert distances.dtype == dtype
        np.testing.assert_allclose(distances, expected, atol=tolerance)
        np.testing.assert_allclose(
            rbf(distances, 0.7), np.exp(-expected / (2 * 0.7**2)), atol=tolerance
        )
    with pytest.raises(NotFinite):
        squared_distances(np.array([[1.0, np.inf]]), np.zeros((1, 2), np.float32))


def test_samples_are_distinct_rows(X: NDArray[Any]) -> None:
    chosen = sample(X, 50, np.random.default_rng(0))
    assert len(np.unique(chosen, axis=0)) == 50
    assert (cdist(chosen, X).min(axis=1) == 0).all()
    assert len(sample(X[:7], 50, np.random.default_rng(0))) == 7


def test_each_round_of_kmeans_lowers_its_objective(X: NDArray[Any]) -> None:
    costs = [
        cdist(X, kmeans(X, 20, np.random.default_rng(0), rounds=rounds), "sqeuclidean")
        .min(axis=1)
        .sum()
        for rounds in range(6)
    ]
    assert all(later < earlier for earlier, later in pairwise(costs))


def test_kmeans_finds_separated_clusters_and_keeps_empty_ones() -> None:
    centres = np.array([[0.0, 0], [10, 0], [0, 10]])
    rng = np.random.default_rng(0)
    X = np.repeat(centres, 50, axis=0) + rng.normal(0, 0.1, (150, 2))
    found = kmeans(X[::50], 3, rng, rounds=3)
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(X[::50], axis=0), rtol=1e-6)
    assert np.isfinite(kmeans(np.zeros((5, 2)), 3, rng, rounds=3)).all()
