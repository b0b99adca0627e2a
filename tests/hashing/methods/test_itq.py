"""The mathematics of ITQ: principal or canonical directions, and the rotation of least loss."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ortho_group
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from app.benchmark.splits import Protocol, split
from hashing import InvalidInput, make_hasher
from hashing.methods.itq import ITQ, cca, minimise_loss, orthogonal, pca
from hashing.parts.principal import scatter
from tests.hashing.ranking import ranking_quality


def loss(V: NDArray[Any], R: NDArray[Any]) -> float:
    z = V @ R
    return float(((np.where(z > 0, 1, -1) - z) ** 2).sum())


def principal(X: NDArray[Any], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return centred descriptors and their k first principal directions, not computed by ITQ."""
    centred = X.astype(float) - X.mean(axis=0, dtype=float)
    return centred, np.linalg.svd(centred, full_matrices=False)[2][:k].T


def test_mean_and_covariance_are_those_of_numpy(X: NDArray[Any]) -> None:
    many = np.tile(X[:1000], (5, 1))[:4500]  # more than one block
    mean, covariance = scatter(many)
    np.testing.assert_allclose(mean, many.mean(axis=0, dtype=float), rtol=1e-12)
    expected = np.cov(many.T.astype(float), bias=True)
    np.testing.assert_allclose(covariance, expected, rtol=1e-9, atol=1e-15)


def test_principal_directions_are_those_of_the_singular_value_decomposition(
    X: NDArray[Any],
) -> None:
    centred, expected = principal(X, 24)
    W = pca(scatter(X)[1], 24)[:, ::-1]
    signs = np.sign((W * expected).sum(axis=0))
    np.testing.assert_allclose(centred @ (W * signs), centred @ expected, atol=1e-10)


def test_learned_weights_are_a_rotation_of_the_principal_directions(X: NDArray[Any]) -> None:
    centred, W = principal(X, 32)
    hasher = ITQ(n_bits=32).fit(X)
    R = W.T @ hasher.weights_
    np.testing.assert_allclose(R.T @ R, np.eye(32), atol=1e-4)
    np.testing.assert_allclose(W @ R, hasher.weights_, atol=1e-4)
    np.testing.assert_allclose(hasher.project(X), centred @ W @ R, atol=1e-4)


def test_no_round_raises_the_loss_and_every_rotation_is_orthogonal(X: NDArray[Any]) -> None:
    centred, W = principal(X, 16)
    V = centred @ W
    R = ortho_group.rvs(16, random_state=0)
    steps = [R := minimise_loss(V, R, 1) if i else R for i in range(20)]
    losses = [loss(V, R) for R in steps]
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(losses))
    assert losses[1] < losses[0]
    for R in steps:
        np.testing.assert_allclose(R @ R.T, np.eye(16), atol=1e-12)
    np.testing.assert_allclose(minimise_loss(V, steps[0], 19), steps[-1], atol=1e-12)


def test_a_round_solves_the_procrustes_problem() -> None:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(5, 5))
    best = (orthogonal(A) * A).sum()
    others = ortho_group.rvs(5, size=2000, random_state=1)
    assert (others * A).sum(axis=(1, 2)).max() < best
    near = orthogonal(orthogonal(A) + 1e-3 * rng.normal(size=(5, 5)))
    assert (near * A).sum() < best


def test_training_lowers_the_loss_below_random_rotations(X: NDArray[Any]) -> None:
    centred, W = principal(X, 24)
    V = centred @ W
    learned = loss(V, W.T @ ITQ(n_bits=24).fit(X).weights_)
    rotations = ortho_group.rvs(24, size=20, random_state=0)
    assert learned < min(loss(V, R) for R in rotations)
    assert learned < loss(V, W.T @ ITQ(n_bits=24, rounds=0).fit(X).weights_)


def test_it_finds_the_rotation_of_rotated_signs() -> None:
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (4000, 6))
    Q = ortho_group.rvs(6, random_state=1)
    V = (signs + rng.normal(0, 0.05, signs.shape)) @ Q.T
    # The rounds find a local minimum, so they start not too far from this one.
    R = minimise_loss(V, orthogonal(Q + rng.normal(0, 0.2, Q.shape)), 10)
    np.testing.assert_allclose(R, Q, atol=0.01)


def test_signs_and_basis_of_the_directions_do_not_matter(X: NDArray[Any]) -> None:
    hasher = ITQ(n_bits=8)
    centred, W = principal(X, 8)
    turned = W @ ortho_group.rvs(8, random_state=2)
    a, b = (D @ minimise_loss(centred @ D, hasher._initial_rotation(D), 20) for D in (W, turned))
    np.testing.assert_allclose(a, b, atol=1e-9)


def test_canonical_directions_solve_their_eigenproblem(
    X: NDArray[Any], y: NDArray[np.int64]
) -> None:
    rho = 1e-3
    W = cca(X, y, 9, rho)
    assert W.shape == (384, 9)
    x = X.astype(float) - X.mean(axis=0, dtype=float)
    indicators = np.eye(10)[y] - np.eye(10)[y].mean(axis=0)
    n = len(X)
    Cxx, Cxy = x.T @ x / n, x.T @ indicators / n
    Cyy = indicators.T @ indicators / n
    regular = Cxx + rho * Cxx.trace() / 384 * np.eye(384)
    left = Cxy @ np.linalg.pinv(Cyy, rcond=1e-10) @ Cxy.T @ W
    squares = np.diag(W.T @ regular @ W)  # w'(Cxx + ρI)w = 1 before scaling by λ
    assert 0 < squares.min() <= squares.max() < 1
    np.testing.assert_allclose(left, regular @ W * squares, atol=1e-9)
    np.testing.assert_allclose(W.T @ regular @ W, np.diag(squares), atol=1e-9)


def test_supervised_directions_come_from_labelled_rows_alone(
    X: NDArray[Any], y: NDArray[np.int64]
) -> None:
    seen = np.arange(len(X)) % 3 == 0
    hasher = ITQ(n_bits=32, supervised=True).fit(X, np.where(seen, y, -1))
    known, new = hasher.transform(X[seen]).astype(float), hasher.transform(X[~seen]).astype(float)
    nearest = (new @ known.T).argmax(axis=1)
    assert (y[seen][nearest] == y[~seen]).mean() > 0.95
    W = cca(X[seen], y[seen], 32, 0.1)
    R = np.linalg.lstsq(W, hasher.weights_.astype(float))[0]
    np.testing.assert_allclose(W @ R, hasher.weights_, atol=1e-4 * np.abs(W).max())


def test_supervised_fit_is_the_same_on_one_thread_and_on_two(
    X: NDArray[Any], y: NDArray[np.int64]
) -> None:
    fingerprints = set()
    for threads in (1, 2):
        with threadpool_limits(threads):
            fingerprints.add(ITQ(n_bits=20, supervised=True).fit(X, y).fingerprint)
    assert len(fingerprints) == 1


@pytest.mark.parametrize("supervised", [False, True])
def test_more_bits_than_directions_have_orthonormal_rows(
    supervised: bool, X: NDArray[Any], y: NDArray[np.int64]
) -> None:
    few = np.ascontiguousarray(X[:, :6])
    hasher = ITQ(n_bits=40, supervised=supervised).fit(few, y)
    W = cca(few, y, 40, 0.1) if supervised else pca(scatter(few)[1], 40)
    assert W.shape == (6, 6)
    R = np.linalg.solve(W, hasher.weights_)
    np.testing.assert_allclose(R @ R.T, np.eye(6), atol=1e-3)
    V = (few - few.mean(axis=0, dtype=float)) @ W
    assert loss(V, R) < min(loss(V, Q[:6]) for Q in ortho_group.rvs(40, size=20, random_state=0))


def test_the_unit_of_the_descriptors_does_not_matter(X: NDArray[Any], y: NDArray[np.int64]) -> None:
    for params in ({}, {"supervised": True}):
        hasher = make_hasher("itq", n_bits=20, **params)
        small, large = (clone(hasher).fit(X * unit, y) for unit in (2.0**-20, 2.0**20))
        assert (small.transform(X * 2.0**-20) == large.transform(X * 2.0**20)).all()


def test_a_dimension_of_another_unit_is_not_rounded_away(
    X: NDArray[Any], y: NDArray[np.int64]
) -> None:
    units = np.where(np.arange(384) % 2, 2.0**30, 1.0)
    hasher = ITQ(n_bits=9, supervised=True, rounds=0).fit(X * units, y)
    W = cca(X * units, y, 9, 0.1)
    x = (X - X.mean(axis=0, dtype=float)) * units
    exact = x @ W @ hasher._initial_rotation(W)
    np.testing.assert_allclose(hasher.project(X * units), exact, atol=1e-3 * np.abs(exact).max())


@pytest.mark.parametrize("n_bits", [24, 48])
def test_it_beats_lsh_on_the_digits(n_bits: int, X: NDArray[Any], y: NDArray[np.int64]) -> None:
    parts = split(y, Protocol(), 0)
    lsh, itq = (ranking_quality(method, n_bits, X, y, parts) for method in ("lsh", "itq"))
    assert itq > lsh + 0.1


def test_constant_dimensions_add_nothing(X: NDArray[Any], y: NDArray[np.int64]) -> None:
    constant = X[:, :50].copy()
    constant[:, 5] = 0.1
    constant[:, 7] = 1e4
    for supervised in (False, True):
        hasher = ITQ(n_bits=16, supervised=supervised).fit(constant, y)
        assert not hasher.weights_[[5, 7]].any()
        share = (hasher.transform(constant) > 0).mean(axis=0)
        assert share.min() > 0.2
        assert share.max() < 0.8


def test_few_or_repeated_rows_have_few_directions(X: NDArray[Any]) -> None:
    repeated = np.repeat(X[:4], 5, axis=0)
    for rows in (X[:4], repeated):
        hasher = ITQ(n_bits=32).fit(rows)
        assert np.linalg.matrix_rank(hasher.weights_, tol=1e-3) == 3
        bits = hasher.transform(X[:4])
        assert (bits[:, None] != bits[None]).sum(axis=2)[np.triu_indices(4, 1)].min() > 5


def test_equal_descriptors_are_refused() -> None:
    for n in (1, 7):
        with pytest.raises(InvalidInput, match="all of them are the same"):
            ITQ(n_bits=4).fit(np.full((n, 3), 0.1))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "supervised itq learns from labels"),
        ([-1] * 6, "two classes are needed, got 0"),
        ([2, 2, 2, -1, -1, -1], "got 1"),
    ],
)
def test_supervised_needs_two_classes(y: Any, message: str) -> None:
    X = np.random.default_rng(0).normal(size=(6, 3))
    with pytest.raises(InvalidInput, match=message):
        ITQ(n_bits=2, supervised=True).fit(X, y)


def test_classes_with_the_same_means_are_refused() -> None:
    X = np.array([[1.0, 1], [-1, -1], [1, -1], [-1, 1]])
    with pytest.raises(InvalidInput, match="means differ"):
        ITQ(n_bits=2, supervised=True).fit(X, [0, 0, 1, 1])


def test_all_labelled_and_two_classes_are_enough(X: NDArray[Any], y: NDArray[np.int64]) -> None:
    hasher = ITQ(n_bits=3, supervised=True).fit(X, (y > 4).astype(int))
    assert np.linalg.matrix_rank(hasher.weights_, tol=1e-4) == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rounds": -1}, "rounds must be from 0"),
        ({"rounds": 2.0}, "rounds must be an integer"),
        ({"supervised": 1}, "supervised must be true or false"),
        ({"regularization": 0}, "above 0 and at most 1, got 0"),
        ({"regularization": 1.5}, "got 1.5"),
        ({"regularization": float("nan")}, "regularization must be finite"),
        ({"regularization": "x"}, "must be a number"),
    ],
)
def test_parameters_are_checked(params: dict[str, Any], message: str, X: NDArray[Any]) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_hasher("itq", **params).fit(X)
