"""The mathematics of SSH: boosting on pairs, round by round, and data it cannot use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.benchmark.splits import Protocol, split
from hashing import InvalidInput, make_hasher
from hashing.methods.ssh import Boosted, boost
from hashing.parts.pairs import sample_pairs
from tests.hashing.ranking import ranking_quality


def drawn_pairs(y: NDArray[Any], n_pairs: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return pairs and their labels: 1 for similar, -1 for dissimilar."""
    pairs = np.concatenate(sample_pairs(y, n_pairs, np.random.default_rng(seed)))
    return pairs, np.repeat([1.0, -1.0], n_pairs)


def classified(
    values: NDArray[Any], pairs: NDArray[Any], feature: int, threshold: float
) -> NDArray[Any]:
    """Return 1 for pairs on one side of the threshold and -1 for others."""
    bits = values[:, feature] > threshold
    return np.where(bits[pairs[:, 0]] == bits[pairs[:, 1]], 1, -1)


def all_classified(boosted: Boosted, values: NDArray[Any], pairs: NDArray[Any]) -> NDArray[Any]:
    """Return the answers of every chosen classifier, (n_rounds, p)."""
    chosen = zip(boosted.features, boosted.thresholds, strict=True)
    return np.stack([classified(values, pairs, f, t) for f, t in chosen])


def test_each_round_takes_the_best_threshold_by_the_weights_of_adaboost() -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(0, 9, (16, 4)).astype(np.float32)
    values[:8, 1] += 6
    pairs, similar = drawn_pairs(np.repeat([0, 1], 8), 40)
    boosted = boost(values, pairs, similar, 6)
    weights = np.full(80, 1 / 80)
    taken = set()
    for feature, threshold, edge in zip(*boosted, strict=True):
        errors = {}
        for f in range(4):
            distinct = np.unique(values[:, f])
            for t in (distinct[:-1] + distinct[1:]) / 2:
                wrong = classified(values, pairs, f, t) != similar
                errors[f, float(t)] = weights[wrong].sum()
        wrong = classified(values, pairs, feature, threshold) != similar
        error = weights[wrong].sum()
        assert error == pytest.approx(min(v for k, v in errors.items() if k not in taken))
        assert edge == pytest.approx(1 - 2 * error)
        assert error < 0.5
        taken.add((feature, float(threshold)))
        # The form of Freund and Schapire: correct pairs are multiplied by ε / (1 - ε).
        weights *= np.where(wrong, 1, error / (1 - error))
        weights /= weights.sum()
        assert weights[wrong].sum() == pytest.approx(0.5)
    assert len(taken) == 6


def test_the_training_error_is_within_the_bound_of_boosting(
    X: NDArray[Any], y: NDArray[Any]
) -> None:
    pairs, similar = drawn_pairs(y, 3000)
    boosted = boost(X, pairs, similar, 40)
    errors = (1 - boosted.edges) / 2
    assert errors.max() < 0.5
    votes = np.log((1 - errors) / errors) / 2
    strong = votes @ all_classified(boosted, X, pairs)
    bound = np.prod(2 * np.sqrt(errors * (1 - errors)))
    # The exponential loss is the product of the normalisers of all rounds, and above the error.
    assert np.exp(-similar * strong).mean() == pytest.approx(bound, rel=1e-9)
    training_error = (np.sign(strong) != similar).mean()
    assert training_error <= bound < 0.9
    assert training_error < 0.35


def test_bits_are_the_chosen_thresholds_and_longer_codes_extend_shorter_ones(
    X: NDArray[Any], y: NDArray[Any]
) -> None:
    long: Any = make_hasher("ssh", n_bits=16, n_pairs=2000, random_state=3).fit(X, y)
    short: Any = make_hasher("ssh", n_bits=8, n_pairs=2000, random_state=3).fit(X, y)
    boosted = boost(X, *drawn_pairs(y, 2000, seed=3), 16)
    np.testing.assert_array_equal(long.features_, boosted.features)
    np.testing.assert_array_equal(long.thresholds_, boosted.thresholds)
    bits = X[:, boosted.features] > boosted.thresholds
    np.testing.assert_array_equal(long.transform(X), np.where(bits, 1, -1))
    np.testing.assert_array_equal(short.transform(X), long.transform(X)[:, :8])


def test_it_finds_the_dimension_that_separates_the_classes() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 100)
    X = rng.normal(size=(200, 5))
    X[:, 3] += 20 * y
    hasher: Any = make_hasher("ssh", n_bits=4).fit(X, y)
    assert hasher.features_[0] == 3
    assert X[y == 0, 3].max() < hasher.thresholds_[0] < X[y == 1, 3].min()
    assert len({*zip(hasher.features_, hasher.thresholds_, strict=True)}) == 4


def test_a_monotone_map_of_the_components_changes_no_bit(X: NDArray[Any], y: NDArray[Any]) -> None:
    stretched = np.exp(3 * X.astype(np.float64))
    bits, stretched_bits = (
        make_hasher("ssh", n_bits=16, n_pairs=2000).fit(x, y).transform(x) for x in (X, stretched)
    )
    np.testing.assert_array_equal(bits, stretched_bits)


def test_it_beats_lsh(X: NDArray[Any], y: NDArray[Any]) -> None:
    parts = split(y, Protocol(), 0)
    ssh, lsh = (ranking_quality(method, 24, X, y, parts) for method in ("ssh", "lsh"))
    assert ssh > lsh + 0.1


def test_there_are_as_many_bits_as_ways_to_cut_the_data() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(20, 2)), np.full((20, 1), 7.0)], axis=1)
    X, y = np.concatenate([X, X]), np.tile(np.repeat([0, 1], 10), 2)
    hasher: Any = make_hasher("ssh", n_bits=38, n_pairs=2000).fit(X, y)
    assert set(hasher.features_) == {0, 1}
    # Two dimensions cut 20 points in 38 different ways.
    assert len(np.unique(hasher.transform(X), axis=1).T) == 38
    with pytest.raises(InvalidInput, match=r"39 bits need as many .* there are 38"):
        hasher.set_params(n_bits=39).fit(X, y)


def test_if_nothing_is_better_than_chance_the_weights_stay() -> None:
    # Every cut separates a similar pair and no dissimilar pair.
    values = np.array([[0.0], [1.0], [2.0]], np.float32)
    pairs = np.array([[0, 1], [1, 2], [0, 0]])
    boosted = boost(values, pairs, np.array([1.0, 1.0, -1.0]), 2)
    np.testing.assert_allclose(boosted.edges, [-1 / 3, -1 / 3])
    assert sorted(boosted.thresholds) == [0.5, 1.5]


def test_few_labels_are_enough(X: NDArray[Any]) -> None:
    y = np.full(len(X), -1)
    y[:3] = [4, 4, 9]
    assert make_hasher("ssh", n_bits=10, n_pairs=100).fit(X, y).encode(X).shape == (len(X), 2)
    with pytest.raises(InvalidInput, match=r"1 bits need as many .* there are 0"):
        make_hasher("ssh", n_bits=1).fit(np.ones((4, 5)), [0, 0, 1, 1])


@pytest.mark.parametrize("n_pairs", [0, 100_001, 1e4, True])
def test_the_number_of_pairs_is_checked(n_pairs: Any, X: NDArray[Any], y: NDArray[Any]) -> None:
    with pytest.raises(InvalidInput, match="n_pairs must be"):
        make_hasher("ssh", n_pairs=n_pairs).fit(X, y)


def test_a_value_that_is_not_finite_is_found_in_dimensions_that_no_bit_uses(
    X: NDArray[Any], y: NDArray[Any]
) -> None:
    hasher: Any = make_hasher("ssh", n_bits=2, n_pairs=500).fit(X, y)
    unused = int(np.setdiff1d(np.arange(384), hasher.features_)[0])
    for wrong in (np.nan, np.inf):
        bad = X[:5].copy()
        bad[3, unused] = wrong
        with pytest.raises(InvalidInput, match=f"row 3, column {unused} is"):
            hasher.encode(bad)
