"""The mathematics of DiffHash: its eigenproblem, its thresholds, and data it cannot use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import eigh
from threadpoolctl import threadpool_limits

from app.benchmark.splits import Protocol, split
from hashing import InvalidInput, make_hasher
from hashing.methods.diffhash import VARIANTS
from hashing.parts.pairs import sample_pairs
from tests.hashing.ranking import ranking_quality


def covariances(
    X: NDArray[Any], y: NDArray[Any], n_pairs: int, seed: int
) -> list[NDArray[np.float64]]:
    """Return Σ_P and Σ_N, summed pair by pair."""
    kinds = sample_pairs(y, n_pairs, np.random.default_rng(seed))
    sums = [np.zeros((X.shape[1], X.shape[1])) for _ in kinds]
    for total, pairs in zip(sums, kinds, strict=True):
        for i, j in pairs:
            total += np.outer(X[i] - X[j], X[i] - X[j])
    return [total / n_pairs for total in sums]


@pytest.mark.parametrize("alpha", [1.0, 0.3, 0.0])
def test_projections_are_the_smallest_eigenvectors_of_the_difference(
    alpha: float, X: NDArray[Any], y: NDArray[Any]
) -> None:
    X = X[:, ::10].astype(np.float64)
    hasher: Any = make_hasher("diffhash", n_bits=12, alpha=alpha, n_pairs=2000).fit(X, y)
    positive, negative = covariances(X, y, 2000, 0)
    expected, vectors = eigh(alpha * positive - negative)
    W = hasher.weights_
    np.testing.assert_allclose(np.linalg.norm(W, axis=0), 1, atol=1e-4)
    # They differ from the eigenvectors only by rounding to multiples of 2⁻¹⁶.
    np.testing.assert_allclose(np.abs((W * vectors[:, :12]).sum(axis=0)), 1, atol=1e-4)
    np.testing.assert_array_equal(W * 2**16, np.rint(W * 2**16))
    found = (W * ((alpha * positive - negative) @ W)).sum(axis=0)
    np.testing.assert_allclose(found, expected[:12], atol=1e-4 * np.abs(expected).max())


def test_lda_minimises_the_ratio(X: NDArray[Any], y: NDArray[Any]) -> None:
    X = X[:, ::10].astype(np.float64)
    hasher: Any = make_hasher("diffhash", n_bits=12, variant="lda", n_pairs=2000).fit(X, y)
    positive, negative = covariances(X, y, 2000, 0)
    expected, vectors = eigh(positive, negative)
    vectors /= np.linalg.norm(vectors, axis=0)
    W = hasher.weights_
    np.testing.assert_allclose(np.abs((W * vectors[:, :12]).sum(axis=0)), 1, atol=1e-4)
    ratio = (W * (positive @ W)).sum(axis=0) / (W * (negative @ W)).sum(axis=0)
    np.testing.assert_allclose(ratio, expected[:12], rtol=1e-2)
    other = make_hasher("diffhash", n_bits=12, variant="lda", n_pairs=2000, alpha=0.1).fit(X, y)
    np.testing.assert_array_equal(other.encode(X), hasher.encode(X))


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_threshold_has_fewer_false_positives_and_negatives(
    variant: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    X, y = X[:80, :20], y[:80]
    params = {"n_bits": 10, "n_pairs": 300, "random_state": 5}
    hasher: Any = make_hasher("diffhash", variant=variant, **params).fit(X, y)
    similar, dissimilar = sample_pairs(y, 300, np.random.default_rng(5))

    def wrong(bits: NDArray[Any]) -> float:
        false_negatives = np.mean([bits[i] != bits[j] for i, j in similar])
        false_positives = np.mean([bits[i] == bits[j] for i, j in dissimilar])
        return float(false_negatives + false_positives)

    bits = hasher.transform(X)
    values = X.astype(np.float64) @ hasher.weights_
    used = np.unique(np.concatenate([similar, dissimilar]))
    for bit in range(10):
        ordered = np.unique(values[used, bit])
        least = min(wrong(values[:, bit] > t) for t in (ordered[:-1] + ordered[1:]) / 2)
        assert wrong(bits[:, bit]) == pytest.approx(least, abs=1e-12)
        assert least < 1  # A constant bit would have 1.


def test_the_first_projections_span_the_class_means_and_the_others_do_not(
    X: NDArray[Any], y: NDArray[Any]
) -> None:
    hasher: Any = make_hasher("diffhash", n_bits=18, n_pairs=20_000).fit(X, y)
    means = np.stack([X[y == c].mean(axis=0, dtype=np.float64) for c in range(10)])
    energy = (((means - means.mean(axis=0)) @ hasher.weights_) ** 2).sum(axis=0)
    total = ((means - means.mean(axis=0)) ** 2).sum()
    assert energy[:9].sum() > 0.95 * total
    assert energy[9:].sum() < 0.05 * total


def test_it_finds_the_direction_that_separates_the_classes() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 200)
    X = rng.normal(0, [5, 1, 5, 5], (400, 4))
    X[:, 1] += 8 * y
    for variant in VARIANTS:
        hasher: Any = make_hasher("diffhash", n_bits=1, variant=variant).fit(X, y)
        assert abs(hasher.weights_[1, 0]) > 0.95
        same = (hasher.transform(X)[:, 0] > 0) == y
        assert same.all() or not same.any()


def test_rotating_and_shifting_the_space_changes_no_bit(X: NDArray[Any], y: NDArray[Any]) -> None:
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(384, 384)))[0]
    turned = X @ rotation + rng.normal(size=384)
    bits, turned_bits = (
        make_hasher("diffhash", n_bits=8).fit(x, y).transform(x) for x in (X, turned)
    )
    share = (bits == turned_bits).mean(axis=0)
    assert np.minimum(share, 1 - share).max() < 0.01  # the sign of a projection is arbitrary


def test_lda_is_the_same_on_one_thread_and_on_two(X: NDArray[Any], y: NDArray[Any]) -> None:
    hasher = make_hasher("diffhash", n_bits=20, variant="lda", n_pairs=2000)
    fingerprints = set()
    for threads in (1, 2):
        with threadpool_limits(threads):
            fingerprints.add(hasher.fit(X, y).fingerprint)
    assert len(fingerprints) == 1


def test_informative_bits_beat_random_ones_and_the_others_dilute_them(
    X: NDArray[Any], y: NDArray[Any]
) -> None:
    """Ten classes give nine informative bits, which alone beat 24 bits of lsh.

    The other 15 of 24 bits follow sampling noise and outvote them: at 24 bits both methods are
    about equal.
    """
    parts = split(y, Protocol(), 0)
    nine, long, lsh = (
        ranking_quality(method, n_bits, X, y, parts)
        for method, n_bits in (("diffhash", 9), ("diffhash", 24), ("lsh", 24))
    )
    assert nine > lsh + 0.1
    assert nine > long + 0.1
    assert long == pytest.approx(lsh, abs=0.08)


@pytest.mark.parametrize("variant", VARIANTS)
def test_constant_and_repeated_dimensions_and_repeated_rows_do_no_harm(
    variant: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    plain = X[:200, :30].astype(np.float64)
    wide = np.concatenate([plain, plain[:, :5], np.full((200, 3), 7.0)], axis=1)
    wide, labels = np.concatenate([wide, wide]), np.concatenate([y[:200], y[:200]])
    hasher: Any = make_hasher("diffhash", n_bits=30, variant=variant).fit(wide, labels)
    assert np.isfinite(hasher.weights_).all()
    np.testing.assert_allclose(hasher.weights_[-3:], 0, atol=1e-4)
    np.testing.assert_allclose(hasher.weights_[:5], hasher.weights_[30:35], atol=1e-4)
    share = (hasher.transform(wide) > 0).mean(axis=0)
    assert ((share > 0) & (share < 1)).all()
    with pytest.raises(InvalidInput, match=r"31 bits need as many .* there are 30"):
        hasher.set_params(n_bits=31).fit(wide, labels)


def test_few_labels_give_few_bits(X: NDArray[Any]) -> None:
    y = np.full(len(X), -1)
    y[:3] = [4, 4, 9]
    hasher = make_hasher("diffhash", n_bits=2).fit(X, y)
    assert hasher.encode(X).shape == (len(X), 1)
    with pytest.raises(InvalidInput, match=r"3 bits need as many .* there are 2"):
        hasher.set_params(n_bits=3).fit(X, y)
    with pytest.raises(InvalidInput, match=r"1 bits need as many .* there are 0"):
        hasher.set_params(n_bits=1).fit(np.ones((4, 5)), [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_pairs": 0}, "n_pairs must be from 1"),
        ({"n_pairs": 1e4}, "n_pairs must be an integer"),
        ({"alpha": -0.1}, "alpha must be 0 or more, got -0.1"),
        ({"alpha": np.nan}, "alpha must be finite"),
        ({"variant": "pca"}, "variant must be dif or lda, got 'pca'"),
        ({"variant": ["dif"]}, r"variant must be dif or lda, got \['dif'\]"),
        ({"n_bits": 385}, "385 bits need as many"),
    ],
)
def test_parameters_are_checked(
    params: dict[str, Any], message: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_hasher("diffhash", **params).fit(X, y)
