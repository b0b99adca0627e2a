"""The mathematics of SDH: its regressions, its discrete steps, and its objective."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hashing import InvalidInput, make_hasher
from hashing.methods.sdh import improve_bits, ridge_regression
from hashing.parts.kernel_features import class_sums

Array = NDArray[np.float64]


def random_codes(rng: np.random.Generator, *shape: int) -> Array:
    return rng.choice([-1.0, 1.0], shape)


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 30.0])
def test_the_regression_is_optimal(penalty: float) -> None:
    rng = np.random.default_rng(0)
    A, T = rng.normal(size=(50, 7)), rng.normal(size=(50, 3))
    M = ridge_regression(A, penalty)(A.T @ T)
    np.testing.assert_allclose(A.T @ (A @ M - T) + penalty * M, 0, atol=1e-10)

    def objective(M: Array) -> float:
        return float(((T - A @ M) ** 2).sum() + penalty * (M**2).sum())

    for _ in range(20):
        assert objective(M + 1e-3 * rng.normal(size=M.shape)) > objective(M)


def test_the_regression_works_with_more_features_than_rows() -> None:
    rng = np.random.default_rng(0)
    A, T = rng.normal(size=(5, 40)), rng.normal(size=(5, 2))
    M = ridge_regression(A, 1e-2)(A.T @ T)
    np.testing.assert_allclose(A.T @ (A @ M - T) + 1e-2 * M, 0, atol=1e-10)


def test_the_target_of_the_class_regression_is_one_hot() -> None:
    rng = np.random.default_rng(0)
    B, classes = random_codes(rng, 30, 6), rng.integers(0, 4, 30)
    np.testing.assert_array_equal(class_sums(B, classes).T, B.T @ np.eye(4)[classes])


def test_after_the_sweeps_every_bit_is_the_best_for_the_others() -> None:
    """For a single bit of a row, with its other bits fixed, the other sign is no better."""
    rng = np.random.default_rng(0)
    n, r, c, nu = 40, 6, 4, 0.3
    B, W, F = random_codes(rng, n, r), rng.normal(size=(r, c)), rng.normal(size=(n, r))
    Y = np.eye(c)[rng.integers(0, c, n)]

    def objective(B: Array) -> Array:
        """Return the objective of each row."""
        terms: Array = ((Y - B @ W) ** 2).sum(axis=1) + nu * ((B - F) ** 2).sum(axis=1)
        return terms

    start = objective(B)
    B = improve_bits(B, W, Y @ W.T + nu * F)
    assert set(np.unique(B)) == {-1, 1}
    assert (objective(B) <= start + 1e-12).all()
    for k in range(r):
        flipped = B.copy()
        flipped[:, k] *= -1
        assert (objective(flipped) >= objective(B) - 1e-12).all()
    np.testing.assert_array_equal(improve_bits(B, W, Y @ W.T + nu * F), B)


def test_one_bit_alone_is_minimised_exactly() -> None:
    """With one bit, the first step solves the whole sub-problem, as brute force confirms."""
    rng = np.random.default_rng(1)
    n, c, nu = 8, 3, 0.5
    W, F = rng.normal(size=(1, c)), rng.normal(size=(n, 1))
    Y = np.eye(c)[rng.integers(0, c, n)]
    B = random_codes(rng, n, 1)
    B = improve_bits(B, W, Y @ W.T + nu * F)

    def objective(column: Array) -> float:
        return float(((Y - column @ W) ** 2).sum() + nu * ((column - F) ** 2).sum())

    columns = [np.array(signs)[:, None] for signs in product([-1.0, 1.0], repeat=n)]
    best = min(columns, key=objective)
    np.testing.assert_array_equal(B, best)


def test_each_update_uses_the_updated_bits_before_it() -> None:
    """The reference is the update of the paper, z = sign(q - B'ᵀ W' v), written out."""
    rng = np.random.default_rng(2)
    n, r, c = 30, 5, 4
    B, W, Q = random_codes(rng, n, r), rng.normal(size=(r, c)), rng.normal(size=(n, r))
    expected = B.copy()
    for _ in range(10):
        for k in range(r):
            others = np.arange(r) != k
            expected[:, k] = np.sign(Q[:, k] - expected[:, others] @ W[others] @ W[k])
    np.testing.assert_array_equal(improve_bits(B, W, Q), expected)


def test_a_bit_stays_if_both_signs_are_equally_good() -> None:
    B = np.array([[1.0], [-1], [0]])
    np.testing.assert_array_equal(improve_bits(B, np.zeros((1, 2)), np.zeros((3, 1))), B)


@pytest.mark.parametrize("nu", [1e-5, 1e-2, 1.0])
def test_the_objective_never_rises(nu: float, X: NDArray[Any], y: NDArray[Any]) -> None:
    """The steps are those of `fit`, each followed by a measurement."""
    rng = np.random.default_rng(0)
    lam, ridge, n, r = 1.0, 1e-2, 300, 16
    K = np.asarray(X[:n] @ X[-80:].T, np.float64)
    K -= K.mean(axis=0)
    classes = np.asarray(y[:n], np.intp)
    Y = np.eye(10)[classes]
    B, W = random_codes(rng, n, r), np.zeros((r, 10))
    predict = ridge_regression(K, ridge)
    P, b = predict(K.T @ B), B.mean(axis=0)

    def objective() -> float:
        from_codes = ((Y - B @ W) ** 2).sum() + lam * (W**2).sum()
        return float(from_codes + nu * (((B - K @ P - b) ** 2).sum() + ridge * (P**2).sum()))

    values = [objective()]
    for done in range(4):
        W = ridge_regression(B, lam)(class_sums(B, classes).T)
        values.append(objective())
        B = improve_bits(B if done else np.zeros((n, r)), W, W.T[classes] + nu * (K @ P + b))
        assert set(np.unique(B)) == {-1, 1}
        values.append(objective())
        P, b = predict(K.T @ B), B.mean(axis=0)
        values.append(objective())
    assert (np.diff(values) <= 1e-9 * values[0]).all()
    assert values[-1] < 0.9 * values[1]

    start = random_codes(np.random.default_rng(0), n, r)
    hasher: Any = make_hasher("sdh", n_bits=r, nu=nu, lam=lam, ridge=ridge, rounds=4)
    fitted = hasher._minimise(start, K, classes)
    np.testing.assert_allclose(fitted[0], P)
    np.testing.assert_allclose(fitted[1], b)


def test_bits_that_the_classes_do_not_need_do_not_stay_random() -> None:
    """With two classes at 48 bits, the rows of a class get one code if bits are set from none."""
    rng = np.random.default_rng(0)
    B, classes = random_codes(rng, 200, 48), rng.integers(0, 2, 200)
    W = ridge_regression(B, 1.0)(class_sums(B, classes).T)
    from_none = improve_bits(np.zeros_like(B), W, W.T[classes])
    assert len(np.unique(from_none, axis=0)) == 2
    assert len(np.unique(improve_bits(B, W, W.T[classes]), axis=0)) > 100


def test_codes_determine_the_classes(X: NDArray[Any], y: NDArray[Any]) -> None:
    """As in the objective, a linear map from the codes of unseen rows gives their class."""
    partly = np.where(np.arange(len(y)) < 600, y, -1)
    bits = make_hasher("sdh", n_bits=24).fit(X, partly).transform(X).astype(float)
    W = ridge_regression(bits[:600], 1.0)(bits[:600].T @ np.eye(10)[y[:600]])
    assert ((bits[600:] @ W).argmax(axis=1) == y[600:]).mean() > 0.9


@pytest.mark.parametrize("n_classes", [2, 3, 4, 10])
def test_with_few_classes_some_bits_are_constant(n_classes: int) -> None:
    """The first round draws the sign of each class, so all agree with probability 2^(1 - c)."""
    rng = np.random.default_rng(0)
    classes = np.arange(800) % n_classes
    B = random_codes(rng, 800, 100)
    for start in (np.zeros_like(B), None, None):
        W = ridge_regression(B, 1.0)(class_sums(B, classes).T)
        B = improve_bits(B if start is None else start, W, W.T[classes])
    codes = np.unique(B, axis=0)
    assert len(codes) == n_classes
    constant = np.ptp(codes, axis=0) == 0
    probability = 2.0 ** (1 - n_classes)
    assert constant.mean() == pytest.approx(probability, abs=3 * (probability / 100) ** 0.5)
    # Such a bit of all labelled rows is one of every descriptor: P has nothing to predict.
    K = rng.normal(size=(800, 20))
    K -= K.mean(axis=0)
    P = ridge_regression(K, 1e-2)(K.T @ B)
    np.testing.assert_allclose(P[:, constant], 0, atol=1e-10)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lam": 0}, "lam must be from 0.001 to 1e6, got 0"),
        ({"ridge": 0.0}, "ridge must be from 0.001"),
        ({"nu": -1}, "nu must be from 0 to"),
        ({"nu": np.nan}, "nu must be finite"),
        ({"lam": "1"}, "lam must be a number"),
        ({"rounds": 0}, "rounds must be from 1"),
    ],
)
def test_parameters_are_checked(
    params: dict[str, Any], message: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_hasher("sdh", **params).fit(X, y)


def test_it_fits_without_weight_on_the_features(X: NDArray[Any], y: NDArray[Any]) -> None:
    z = make_hasher("sdh", n_bits=8, nu=0, n_anchors=50).fit(X[:200], y[:200]).project(X)
    assert np.isfinite(z).all()
