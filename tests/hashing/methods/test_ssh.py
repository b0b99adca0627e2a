"""The mathematics of SSH: boosting on pairs, round by round, and what it cannot learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.benchmark.splits import Protocol, split
from hashing import InvalidInput, make_hasher
from hashing.methods.ssh import Boosted, boost
from hashing.parts.pairs import sample_pairs
from tests.average_precision import mean_average_precision


def drawn(y: NDArray[Any], n_pairs: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pairs and their labels: 1 for similar, -1 for dissimilar."""
    pairs = np.concatenate(sample_pairs(y, n_pairs, np.random.default_rng(seed)))
    return pairs, np.repeat([1.0, -1.0], n_pairs)


def classified(
    values: NDArray[Any], pairs: NDArray[Any], feature: int, threshold: float
) -> NDArray[Any]:
    """1 for pairs on one side of the threshold, -1 for others."""
    bits = values[:, feature] > threshold
    return np.where(bits[pairs[:, 0]] == bits[pairs[:, 1]], 1, -1)


def classifiers(boosted: Boosted, values: NDArray[Any], pairs: NDArray[Any]) -> NDArray[Any]:
    chosen = zip(boosted.features, boosted.thresholds, strict=True)
    return np.stack([classified(values, pairs, f, t) for f, t in chosen])


def test_each_round_takes_the_best_of_all_thresholds_under_adaboosts_weights() -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(0, 9, (16, 4)).astype(np.float32)
    values[:8, 1] += 6
    pairs, similar = drawn(np.repeat([0, 1], 8), 40)
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
        # Freund and Schapire's form: what was right weighs less by ε / (1 - ε).
        weights *= np.where(wrong, 1, error / (1 - error))
        weights /= weights.sum()
        assert weights[wrong].sum() == pytest.approx(0.5)
    assert len(taken) == 6


def test_training_error_is_within_the_bound_of_boosting(X: NDArray[Any], y: NDArray[Any]) -> None:
    pairs, similar = drawn(y, 3000)
    boosted = boost(X, pairs, similar, 40)
    errors = (1 - boosted.edges) / 2
    assert errors.max() < 0.5
    votes = np.log((1 - errors) / errors) / 2
    strong = votes @ classifiers(boosted, X, pairs)
    bound = np.prod(2 * np.sqrt(errors * (1 - errors)))
    # The exponential loss is the product of the rounds' normalisers, and above the error.
    assert np.exp(-similar * strong).mean() == pytest.approx(bound, rel=1e-9)
    training_error = (np.sign(strong) != similar).mean()
    assert training_error <= bound < 0.9
    assert training_error < 0.35


def test_bits_are_the_chosen_thresholds_and_longer_codes_go_on_from_shorter_ones(
    X: NDArray[Any], y: NDArray[Any]
) -> None:
    long: Any = make_hasher("ssh", n_bits=16, n_pairs=2000, random_state=3).fit(X, y)
    short: Any = make_hasher("ssh", n_bits=8, n_pairs=2000, random_state=3).fit(X, y)
    boosted = boost(X, *drawn(y, 2000, seed=3), 16)
    np.testing.assert_array_equal(long.features_, boosted.features)
    np.testing.assert_array_equal(long.thresholds_, boosted.thresholds)
    bits = X[:, boosted.features] > boosted.thresholds
    np.testing.assert_array_equal(long.transform(X), np.where(bits, 1, -1))
    np.testing.assert_array_equal(short.transform(X), long.transform(X)[:, :8])


def test_finds_the_dimension_that_tells_classes_apart() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 100)
    X = rng.normal(size=(200, 5))
    X[:, 3] += 20 * y
    hasher: Any = make_hasher("ssh", n_bits=4).fit(X, y)
    assert hasher.features_[0] == 3
    assert X[y == 0, 3].max() < hasher.thresholds_[0] < X[y == 1, 3].min()
    assert len({*zip(hasher.features_, hasher.thresholds_, strict=True)}) == 4


def test_increasing_maps_of_a_dimension_change_no_bit(X: NDArray[Any], y: NDArray[Any]) -> None:
    stretched = np.exp(3 * X.astype(np.float64))
    bits, stretched_bits = (
        make_hasher("ssh", n_bits=16, n_pairs=2000).fit(x, y).transform(x) for x in (X, stretched)
    )
    np.testing.assert_array_equal(bits, stretched_bits)


def test_unlabelled_rows_are_not_learned_from(X: NDArray[Any], y: NDArray[Any]) -> None:
    some = np.where(np.arange(len(y)) % 3 == 0, y, -1)
    a = make_hasher("ssh", n_bits=4, n_pairs=500).fit(X, some)
    b = make_hasher("ssh", n_bits=4, n_pairs=500).fit(X[some >= 0], some[some >= 0])
    assert a.fingerprint == b.fingerprint


def test_beats_random_hyperplanes(X: NDArray[Any], y: NDArray[Any]) -> None:
    parts = split(y, Protocol(), 0)
    scores = []
    for method in ("ssh", "lsh"):
        hasher = make_hasher(method, n_bits=24).fit(X[parts.database], parts.y)
        codes = hasher.encode(X[parts.queries]), hasher.encode(X[parts.database])
        labels = y[parts.queries], y[parts.database]
        scores.append(mean_average_precision(codes[0], labels[0], codes[1], labels[1]))
    assert scores[0] > scores[1] + 0.1


def test_more_bits_than_dimensions_and_constant_ones_and_duplicate_rows() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(20, 2)), np.full((20, 1), 7.0)], axis=1)
    X, y = np.concatenate([X, X]), np.tile(np.repeat([0, 1], 10), 2)
    hasher: Any = make_hasher("ssh", n_bits=38, n_pairs=2000).fit(X, y)
    assert set(hasher.features_) == {0, 1}
    # 38 different ways to cut 20 points by two dimensions: all of them.
    assert len(np.unique(hasher.transform(X), axis=1).T) == 38
    with pytest.raises(InvalidInput, match=r"39 bits need as many .* there are 38"):
        hasher.set_params(n_bits=39).fit(X, y)


def test_where_nothing_is_better_than_chance_weights_stay() -> None:
    # The one way to cut these two points separates similar pairs and no dissimilar ones.
    values = np.array([[0.0], [1.0], [2.0]], np.float32)
    pairs = np.array([[0, 1], [1, 2], [0, 0]])
    boosted = boost(values, pairs, np.array([1.0, 1.0, -1.0]), 2)
    np.testing.assert_allclose(boosted.edges, [-1 / 3, -1 / 3])
    assert sorted(boosted.thresholds) == [0.5, 1.5]


def test_small_numbers_of_labels(X: NDArray[Any]) -> None:
    y = np.full(len(X), -1)
    y[:3] = [4, 4, 9]
    assert make_hasher("ssh", n_bits=10, n_pairs=100).fit(X, y).encode(X).shape == (len(X), 2)
    with pytest.raises(InvalidInput, match=r"1 bits need as many .* there are 0"):
        make_hasher("ssh", n_bits=1).fit(np.ones((4, 5)), [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, r"learns from labels: fit\(X, y\) needs y"),
        ([-1] * 6, "at least two classes are needed, got 0"),
        ([3] * 6, "at least two classes are needed, got 1"),
        ([3, 3, -1, -1, 3, 3], "at least two classes are needed, got 1"),
        ([0, 1, 2, -1, -1, -1], "each class has one"),
    ],
)
def test_labels_it_cannot_learn_from_are_refused(y: Any, message: str) -> None:
    X = np.random.default_rng(0).normal(size=(6, 4))
    with pytest.raises(InvalidInput, match=message):
        make_hasher("ssh", n_bits=1).fit(X, y)


@pytest.mark.parametrize("n_pairs", [0, 100_001, 1e4, True])
def test_number_of_pairs_is_checked(n_pairs: Any, X: NDArray[Any], y: NDArray[Any]) -> None:
    with pytest.raises(InvalidInput, match="n_pairs must be"):
        make_hasher("ssh", n_pairs=n_pairs).fit(X, y)


def test_not_finite_is_found_in_dimensions_that_no_bit_looks_at(
    X: NDArray[Any], y: NDArray[Any]
) -> None:
    hasher: Any = make_hasher("ssh", n_bits=2, n_pairs=500).fit(X, y)
    unused = int(np.setdiff1d(np.arange(384), hasher.features_)[0])
    for wrong in (np.nan, np.inf):
        bad = X[:5].copy()
        bad[3, unused] = wrong
        with pytest.raises(InvalidInput, match=f"row 3, column {unused} is"):
            hasher.encode(bad)
