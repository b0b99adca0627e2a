"""Cuts of features, and the pairs they separate."""

from __future__ import annotations

import numpy as np

from hashing.parts.thresholds import Cuts


def test_the_weight_of_a_cut_is_that_of_the_pairs_it_separates() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (15, 4)).astype(np.float32)  # many ties
    values[:, 3] = 2.5  # cannot be cut
    pairs = rng.integers(0, 15, (40, 2))
    weights = rng.normal(size=40)
    cuts = Cuts(values, pairs)
    separated = cuts.separated(weights)
    assert separated.shape == cuts.possible.shape == (4, 14)
    np.testing.assert_array_equal(np.isfinite(separated), cuts.possible)
    for feature in range(4):
        ordered = np.sort(values[:, feature])
        distinct = np.unique(ordered)
        places = np.flatnonzero(cuts.possible[feature])
        np.testing.assert_array_equal(ordered[places], distinct[:-1])
        thresholds = cuts.thresholds(np.full(len(places), feature), places)
        np.testing.assert_array_equal(thresholds, (distinct[:-1] + distinct[1:]) / 2)
        for threshold, total in zip(thresholds, separated[feature, places], strict=True):
            above = values[:, feature] > threshold
            separated_pairs = [above[i] != above[j] for i, j in pairs]
            np.testing.assert_allclose(total, weights[separated_pairs].sum(), atol=1e-12)


def test_adjacent_numbers_can_be_separated() -> None:
    low = np.float32(1 / 3)
    for _ in range(4):
        high = np.nextafter(low, np.float32(1))
        cuts = Cuts(np.array([[high], [low]]), np.array([[0, 1]]))
        threshold = cuts.thresholds(np.array([0]), np.array([0]))[0]
        assert threshold.dtype == np.float32
        assert low <= threshold < high
        low = high
