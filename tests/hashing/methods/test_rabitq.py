"""RaBitQ: the rotation, unbiased estimates, and how often their bound holds."""

from __future__ import annotations

import math
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from bitcodes import unpack
from hashing import InvalidInput, load_hasher
from hashing.methods import rabitq
from hashing.methods.rabitq import RaBitQ, rotation
from hashing.parts.estimate import METRICS, Metric, epsilon_for, share_within

N_QUERIES = 20


@pytest.fixture(scope="module")
def gaussian() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(0.3, 1, (260, 384))


def fitted(X: NDArray[Any], metric: str, **params: Any) -> RaBitQ:
    return RaBitQ(normalize=metric == "cosine", **params).fit(X)


def exact(Q: NDArray[Any], X: NDArray[Any], metric: str) -> NDArray[np.float64]:
    Q, X = Q.astype(np.float64), X.astype(np.float64)
    if metric == "dot":
        return np.asarray(-Q @ X.T)
    if metric == "cosine":
        return np.asarray(
            1 - Q @ X.T / np.outer(np.linalg.norm(Q, axis=1), np.linalg.norm(X, axis=1))
        )
    return np.asarray(((Q[:, None] - X) ** 2).sum(axis=2))


@pytest.fixture
def structured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all rotations structured."""
    monkeypatch.setattr(rabitq, "_LARGEST_UNIFORM", 0)


@pytest.mark.parametrize("n_bits", [24, 40, 64, 100])
@pytest.mark.parametrize("kind", ["uniform", "structured"])
def test_rows_are_orthonormal_and_beyond_the_dimension_columns_are(
    kind: str, n_bits: int, request: pytest.FixtureRequest
) -> None:
    if kind == "structured":
        request.getfixturevalue(kind)
    A = RaBitQ(n_bits).fit(np.zeros((1, 40))).weights_.T
    short = A if n_bits <= 40 else A.T
    np.testing.assert_allclose(short @ short.T, np.eye(min(n_bits, 40)), atol=1e-6)


@pytest.mark.parametrize("n_bits", [40, 60, 100])
def test_every_bit_reduces_the_error(n_bits: int) -> None:
    # As a code of as many dimensions has, where <b, A x> is √(2 / π) √m ‖x‖ on average.
    X = np.random.default_rng(0).normal(size=(500, 40)).astype(np.float32)
    errors = [
        RaBitQ(n_bits, center=False, random_state=seed).fit(X).factors(X, "dot")[:, 2]
        for seed in range(5)
    ]
    relative = np.mean(errors, axis=0) / np.linalg.norm(X, axis=1)
    expected = math.sqrt((math.pi / 2 - 1) / (n_bits - 1))
    assert relative.mean() == pytest.approx(expected, rel=0.03)


def test_rotations_are_uniform() -> None:
    # Each entry of a rotation in 3 dimensions is uniform in [-1, 1]: E a² = 1/3, E a⁴ = 1/5.
    rng = np.random.default_rng(0)
    A = np.array([rotation(3, 3, rng) for _ in range(2000)])
    np.testing.assert_allclose(A.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose((A**2).mean(axis=0), 1 / 3, atol=0.03)
    np.testing.assert_allclose((A**4).mean(axis=0), 1 / 5, atol=0.03)


def test_no_large_rotation_is_factorized(monkeypatch: pytest.MonkeyPatch) -> None:
    # One of 4,096 dimensions takes a minute, which a request has to wait for.
    sizes, qr = [], np.linalg.qr

    def counted(G: NDArray[Any]) -> Any:
        sizes.append(G.shape)
        return qr(G)

    monkeypatch.setattr(np.linalg, "qr", counted)
    RaBitQ(64).fit(np.zeros((1, 1024)))
    RaBitQ(1024).fit(np.zeros((1, 2048)))
    assert sizes == [(1024, 64)]


@pytest.mark.usefixtures("structured")
@pytest.mark.parametrize("data", ["gaussian", "sparse", "cosines"])
def test_estimates_of_a_structured_rotation_are_as_good(data: str) -> None:
    rng = np.random.default_rng(0)
    d, n = 384, 120
    X = {
        "gaussian": rng.normal(size=(n, d)),
        "sparse": np.eye(d)[rng.integers(0, d, n)] + np.eye(d)[rng.integers(0, d, n)],
        "cosines": np.cos(np.pi * (np.arange(d) + 0.5) * rng.integers(0, 40, n)[:, None] / d),
    }[data].astype(np.float32)
    Q, items = X[:20], X[20:]
    multiples = []
    for seed in range(6):
        hasher = RaBitQ(384, center=False, random_state=seed).fit(X)
        factors = hasher.factors(items)
        difference = hasher.estimate(Q, hasher.encode(items), factors) - exact(
            Q, items, "euclidean"
        )
        bound = hasher.error_bound(Q, factors, epsilon=1)
        apart = bound > 1e-3 * bound.max()
        multiples.append(np.where(apart, difference / np.where(apart, bound, 1), np.nan))
    every = np.array(multiples)
    per_query = np.nanmean(every, axis=2).ravel()
    assert abs(per_query.mean()) < 3 * per_query.std(ddof=1) / math.sqrt(len(per_query))
    assert np.nanmean(np.abs(every) <= 1.9) > share_within(1.9, d) - 0.01
    assert np.nanmean(every <= epsilon_for(0.99, d)) > 0.99 - 0.004


@pytest.mark.parametrize(
    ("n_bits", "metric"),
    [(128, "euclidean"), (384, "euclidean"), (1024, "euclidean"), (384, "dot"), (1024, "cosine")],
)
@pytest.mark.parametrize("data", ["gaussian", "digits"])
def test_estimates_are_unbiased_and_the_bound_holds(
    data: str, n_bits: int, metric: Metric, gaussian: NDArray[Any], X: NDArray[Any]
) -> None:
    every = gaussian if data == "gaussian" else X[:260]
    Q, items = every[:N_QUERIES], every[N_QUERIES:]
    # The estimates of one rotation depend on one another, so the pairs are of several.
    differences, within, below = [], [], []
    true = exact(Q, items, metric)
    for seed in range(3):
        hasher = fitted(every, metric, n_bits=n_bits, random_state=seed)
        factors = hasher.factors(items, metric)
        estimate = hasher.estimate(Q, hasher.encode(items), factors, metric)
        difference = estimate - true
        bound = hasher.error_bound(Q, factors, metric)
        differences.append(difference)
        within.append(np.abs(difference) <= bound)
        loose = hasher.error_bound(Q, factors, metric, epsilon_for(0.99, 384))
        below.append(difference <= loose)
    rows = np.array(differences).mean(axis=(1, 2))
    error = np.array(differences).ravel()
    assert error.size > 10_000
    # Pairs of one query share its direction: the standard error is that of means per query.
    per_query = np.array(differences).mean(axis=2).ravel()
    assert abs(rows.mean()) < 3 * per_query.std(ddof=1) / math.sqrt(len(per_query))
    assert np.mean(within) > share_within(1.9, 384) - 0.005
    assert np.mean(below) > 0.99 - 0.002


@pytest.mark.parametrize("n_bits", [20, 64, 150])
def test_the_formula_of_the_paper(n_bits: int) -> None:
    rng = np.random.default_rng(3)
    X, q = rng.normal(1, 1, (30, 64)), rng.normal(1, 1, 64)
    hasher = RaBitQ(n_bits).fit(X)
    codes, factors = hasher.encode(X), hasher.factors(X)
    A, centre = hasher.weights_.T.astype(np.float64), hasher.center_.astype(np.float64)
    estimate = hasher.estimate(q[None], codes, factors)[0]
    bound = hasher.error_bound(q[None], factors)[0]
    for i, x in enumerate(X.astype(np.float32).astype(np.float64)):
        o, length = (x - centre) / np.linalg.norm(x - centre), np.linalg.norm(x - centre)
        quantized = A.T @ np.where(unpack(codes[i : i + 1], n_bits)[0], 1, -1)
        quantized /= np.linalg.norm(quantized)
        cosine = quantized @ o
        inner = length * (quantized @ (q - centre)) / cosine
        expected = length**2 + np.linalg.norm(q - centre) ** 2 - 2 * inner
        # Rounding the query to 256 levels is about a hundredth of the bound.
        assert abs(estimate[i] - expected) < 0.05 * bound[i]
        stated = 1.9 * math.sqrt((1 - cosine**2) / cosine**2 / 63)
        assert bound[i] == pytest.approx(2 * length * np.linalg.norm(q - centre) * stated, rel=1e-5)


def test_codes_factors_and_estimates_are_those_of_faiss(X: NDArray[Any]) -> None:
    hasher = RaBitQ(384).fit(X)
    rotated = ((X - hasher.center_) @ hasher.weights_).astype(np.float32)
    index = faiss.IndexRaBitQ(384, faiss.METRIC_L2, 2)
    index.train(np.zeros((1, 384), np.float32))
    stored = index.sa_encode(rotated)
    codes, factors = hasher.encode(X), hasher.factors(X)
    bits = np.unpackbits(stored[:, :48], axis=1, bitorder="little")
    assert (bits != unpack(codes, 384)).mean() < 1e-5
    # Squared length, √m ‖x - μ‖² / ‖A (x - μ)‖₁, and the error with epsilon 1.9.
    expected = stored[:, 48:60].copy().view(np.float32)
    np.testing.assert_allclose(-factors[:, 1], expected[:, 0], rtol=1e-4)
    np.testing.assert_allclose(factors[:, 0] / 2 * math.sqrt(384), expected[:, 1], rtol=1e-4)
    np.testing.assert_allclose(1.9 * factors[:, 2], expected[:, 2], rtol=2e-3)
    plain = faiss.IndexRaBitQ(384, faiss.METRIC_L2)
    plain.train(np.zeros((1, 384), np.float32))
    plain.add(rotated)
    plain.qb = 8
    distances, rows = plain.search(rotated[:5], len(X))
    estimate = np.take_along_axis(hasher.estimate(X[:5], codes, factors), rows, 1)
    np.testing.assert_allclose(np.maximum(estimate, 0), distances, atol=2e-3 * distances.max())


def test_a_query_that_is_its_own_item_has_a_distance_of_about_zero(X: NDArray[Any]) -> None:
    hasher = RaBitQ(1024).fit(X)
    codes, factors = hasher.encode(X[:50]), hasher.factors(X[:50])
    estimate = np.diag(hasher.estimate(X[:50], codes, factors))
    assert np.abs(estimate).max() < 0.02 * exact(X[:50], X[:50], "euclidean").max()


@pytest.mark.parametrize("metric", METRICS)
def test_zeros_and_items_at_the_centre_have_sound_estimates(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(0, 1, (50, 16))
    hasher = fitted(X, metric, n_bits=64, center=False)
    items = np.concatenate([np.zeros((1, 16)), X[:1]])
    codes, factors = hasher.encode(items), hasher.factors(items, metric)
    estimate = hasher.estimate(np.concatenate([X[1:3], np.zeros((1, 16))]), codes, factors, metric)
    assert np.isfinite(factors).all()
    lengths = (X[1:3] ** 2).sum(axis=1)
    of_zeros = {"euclidean": [*lengths, 0], "cosine": [1, 1, 1], "dot": [0, 0, 0]}[metric]
    np.testing.assert_allclose(estimate[:, 0], of_zeros, atol=1e-5)
    by_zeros = {"euclidean": (X[0] ** 2).sum(), "cosine": 1, "dot": 0}[metric]
    assert estimate[2, 1] == pytest.approx(by_zeros, abs=1e-5)


def test_a_vector_of_zeros_has_the_cosine_zero_when_centred() -> None:
    X = np.random.default_rng(0).normal(1, 1, (50, 16))
    hasher = RaBitQ(1024, normalize=True).fit(X)
    zeros = np.zeros((1, 16))
    factors = hasher.factors(np.concatenate([zeros, X]), "cosine")
    codes = hasher.encode(np.concatenate([zeros, X]))
    estimate = hasher.estimate(np.concatenate([X[:5], zeros]), codes, factors, "cosine")
    bound = hasher.error_bound(np.concatenate([X[:5], zeros]), factors, "cosine", 4)
    assert (np.abs(estimate[:5, 0] - 1) < bound[:5, 0]).all()
    assert (np.abs(estimate[5] - 1) < bound[5]).all()


def test_one_item_and_one_dimension(tmp_path: Any) -> None:
    hasher = RaBitQ(3).fit([[2.0]])
    codes, factors = hasher.encode([[5.0], [2.0]]), hasher.factors([[5.0], [2.0]])
    # Exact but for the rounding of the query.
    np.testing.assert_allclose(
        hasher.estimate([[1.0], [2.0]], codes, factors), [[16, 1], [9, 0]], atol=0.01
    )
    hasher.save(tmp_path / "e.safetensors")
    again = load_hasher(tmp_path / "e.safetensors")
    assert isinstance(again, RaBitQ)
    np.testing.assert_array_equal(again.factors([[5.0]]), factors[:1])


def test_lengths_do_not_matter_with_normalize(X: NDArray[Any]) -> None:
    hasher = RaBitQ(64, normalize=True).fit(X)
    longer = X[:50] * np.linspace(0.1, 1e30, 50)[:, None]
    assert (hasher.encode(longer) != hasher.encode(X[:50])).mean() < 1e-3
    np.testing.assert_allclose(
        hasher.factors(longer, "cosine"), hasher.factors(X[:50], "cosine"), rtol=1e-3
    )


def test_shares_and_epsilons_are_those_of_random_directions() -> None:
    rng = np.random.default_rng(0)
    for d in (4, 20):
        directions = rng.standard_normal((200_000, d - 1))
        first = directions[:, 0] / np.linalg.norm(directions, axis=1) * math.sqrt(d - 1)
        assert share_within(1.4, d) == pytest.approx((np.abs(first) <= 1.4).mean(), abs=0.004)
        for confidence in (0.5, 0.9, 0.99):
            below = (first <= epsilon_for(confidence, d)).mean()
            assert below == pytest.approx(confidence, abs=0.004)
    assert share_within(1.9, 384) == pytest.approx(0.9427, abs=1e-4)
    assert (share_within(1.9, 1), share_within(1.0, 2), share_within(0.5, 2)) == (1, 1, 0)
    assert (epsilon_for(0.9, 1), epsilon_for(0.9, 2)) == (0, 1)


def test_wrong_metrics_shapes_and_values_are_refused(X: NDArray[Any]) -> None:
    hasher = RaBitQ(64).fit(X)
    codes, factors = hasher.encode(X[:3]), hasher.factors(X[:3])
    with pytest.raises(InvalidInput, match=r"metric must be one of .* got 'cosin' .*'cosine'"):
        hasher.factors(X, "cosin")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"'cosine' need a rabitq with normalize; .*euclidean"):
        hasher.query_terms(X[:1], "cosine")
    with pytest.raises(InvalidInput, match="'dot' need a rabitq with normalize=False"):
        RaBitQ(64, normalize=True).fit(X).factors(X[:1], "dot")
    with pytest.raises(InvalidInput, match=r"factors of shape \(n, 3\), got .* \(2, 3\)"):
        hasher.estimate(X[:1], codes, factors[:2])
    with pytest.raises(InvalidInput, match="row 1, column 0"):
        hasher.factors(np.concatenate([X[:1], np.full((1, 384), np.nan)]))
    with pytest.raises(InvalidInput, match="overflow float32"):
        hasher.factors(np.full((1, 384), 1e25))
