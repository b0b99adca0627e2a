"""The mathematics of KSH: its residual, its spectral start, and its refinement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from hashing import InvalidInput, make_hasher
from hashing.methods.ksh import (
    Residual,
    cost,
    first_eigenvector,
    learn_weights,
    refine,
    signs,
    whiten,
)

N_BITS = 12


@pytest.fixture(scope="module")
def K(X: NDArray[Any]) -> NDArray[np.float64]:
    """Return centred features of the first 300 digits at 40 anchors."""
    squared = cdist(X[:300], X[-40:], "sqeuclidean")
    K: NDArray[np.float64] = np.exp(-squared / (2 * squared.mean()))
    K -= K.mean(axis=0)
    K.flags.writeable = False
    return K


@pytest.fixture(scope="module")
def classes(y: NDArray[Any]) -> NDArray[np.intp]:
    return np.asarray(y[:300], np.intp)


def pairwise_labels(classes: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.where(classes[:, None] == classes, 1.0, -1.0)


def residual_after(
    bits: NDArray[np.float64], classes: NDArray[np.intp], n_bits: int
) -> tuple[Residual, NDArray[np.float64]]:
    """Return the residual after these bits, as an object and as a matrix."""
    residual = Residual(classes, n_bits)
    for bit in bits:
        residual.subtract(bit)
    return residual, n_bits * pairwise_labels(classes) - bits.T @ bits


@pytest.fixture(scope="module")
def residual_and_matrix(
    K: NDArray[np.float64], classes: NDArray[np.intp]
) -> tuple[Residual, NDArray[np.float64]]:
    """Return the residual after three bits of twelve, as an object and as a matrix."""
    bits = signs(np.random.default_rng(0).normal(size=(3, len(K))))
    return residual_after(bits, classes, N_BITS)


def test_the_residual_behaves_like_the_matrix(
    residual_and_matrix: tuple[Residual, NDArray[np.float64]], K: NDArray[np.float64]
) -> None:
    residual, R = residual_and_matrix
    np.testing.assert_allclose(residual.times(K[:, 0]), R @ K[:, 0], atol=1e-9)
    np.testing.assert_allclose(residual.within(K), K.T @ R @ K, atol=1e-9)
    bit = signs(K[:, 1])
    assert residual.explained(bit) == pytest.approx(bit @ R @ bit)


def test_the_spectral_start_solves_its_eigenproblem(
    residual_and_matrix: tuple[Residual, NDArray[np.float64]], K: NDArray[np.float64]
) -> None:
    residual, R = residual_and_matrix
    T = whiten(K)
    a = T @ first_eigenvector(residual.within(K @ T))
    left, right = K.T @ R @ K, K.T @ K
    top = eigh(left, right, eigvals_only=True)[-1]
    np.testing.assert_allclose(left @ a, top * (right @ a), atol=1e-8 * np.abs(left @ a).max())
    assert a @ right @ a == pytest.approx(1)


def test_whitening_leaves_out_repeated_features(K: NDArray[np.float64]) -> None:
    repeated = np.column_stack([K, K[:, :7], np.zeros(len(K))])
    T = whiten(repeated)
    assert T.shape == (48, 40)
    np.testing.assert_allclose(T.T @ (repeated.T @ repeated) @ T, np.eye(40), atol=1e-7)


def test_the_sign_of_an_eigenvector_is_fixed() -> None:
    form = np.diag([1.0, 3, 2])
    np.testing.assert_array_equal(first_eigenvector(form), [0, 1, 0])
    turned = np.array([[0.6, -0.8], [0.8, 0.6]])
    first = first_eigenvector(turned @ np.diag([1.0, 2]) @ turned.T)
    np.testing.assert_allclose(first, [0.8, -0.6])


def test_the_gradient_agrees_with_finite_differences(
    residual_and_matrix: tuple[Residual, NDArray[np.float64]], K: NDArray[np.float64]
) -> None:
    residual, R = residual_and_matrix
    rng = np.random.default_rng(1)
    a = rng.normal(size=40)

    def smooth(a: NDArray[np.float64]) -> float:
        s = 2 / (1 + np.exp(-K @ a)) - 1
        return -float(s @ R @ s)

    value, slope = cost(residual, K @ a)
    assert value == pytest.approx(smooth(a))
    for direction in rng.normal(size=(5, 40)):
        step = 1e-5 * direction
        difference = (smooth(a + step) - smooth(a - step)) / 2e-5
        assert slope @ K @ direction == pytest.approx(difference, rel=1e-5)


def test_refining_lowers_the_smooth_cost_towards_a_stationary_point(
    residual_and_matrix: tuple[Residual, NDArray[np.float64]], K: NDArray[np.float64]
) -> None:
    residual, _ = residual_and_matrix
    T = whiten(K)
    start = T @ first_eigenvector(residual.within(K @ T)) * np.sqrt(len(K))
    costs = [cost(residual, K @ refine(K, residual, start, steps))[0] for steps in (0, 5, 50, 500)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0] - 0.01 * abs(costs[0])
    assert (refine(K, residual, start, 0) == start).all()

    def steepness(a: NDArray[np.float64]) -> float:
        return float(np.linalg.norm(cost(residual, K @ a)[1] @ K))

    assert steepness(refine(K, residual, start, 500)) < 0.05 * steepness(start)


def test_refining_ends_if_the_residual_is_zero(K: NDArray[np.float64]) -> None:
    """With one row per class, two equal bits explain S completely, and R is zero."""
    residual = Residual(np.array([0, 1]), 2)
    for _ in range(2):
        residual.subtract(np.array([1.0, -1]))
    F = np.array([[1.0, 0], [-1, 0]])
    np.testing.assert_array_equal(residual.times(F[:, 0]), 0)
    assert np.isfinite(refine(F, residual, np.array([1.0, 0]), 500)).all()


def test_a_refined_bit_is_no_worse_than_its_start(
    K: NDArray[np.float64], classes: NDArray[np.intp]
) -> None:
    T = whiten(K)
    bits = signs(K @ learn_weights(K, classes, N_BITS, 100)).T
    gains = []
    for i in range(N_BITS):
        residual, R = residual_after(bits[:i], classes, N_BITS)
        start = signs(K @ T @ first_eigenvector(residual.within(K @ T)))
        gains.append(bits[i] @ R @ bits[i] - start @ R @ start)
    assert min(gains) >= 0
    assert np.count_nonzero(gains) > N_BITS / 2


def test_the_objective_falls_with_every_bit(X: NDArray[Any], y: NDArray[Any]) -> None:
    """The objective is ‖Σ h hᵀ - r S‖² over the codes of the labelled rows from `transform`."""
    hidden = np.where(np.arange(len(y)) < 300, y, -1)
    H = make_hasher("ksh", n_bits=N_BITS, n_anchors=100).fit(X, hidden).transform(X[:300])
    target = N_BITS * pairwise_labels(np.asarray(y[:300], np.intp))
    outer = np.cumsum([np.outer(h, h) for h in H.T.astype(float)], axis=0)
    objective = np.append((target**2).sum(), ((outer - target) ** 2).sum(axis=(1, 2)))
    assert (np.diff(objective) < 0).all()
    # Ten codes cannot all be opposite: the mean product of two is at least -1/9 and not -1, so a
    # share of at least 0.9 (8/9)² is left.
    assert 0.71 < objective[-1] / objective[0] < 0.78


def test_all_steps_give_the_same_on_any_number_of_threads(X: NDArray[Any], y: NDArray[Any]) -> None:
    fingerprints = set()
    for threads in (1, 2):
        with threadpool_limits(threads):
            fingerprints.add(make_hasher("ksh", n_bits=3).fit(X[:600], y[:600]).fingerprint)
    assert len(fingerprints) == 1


def test_the_number_of_steps_is_checked(X: NDArray[Any], y: NDArray[Any]) -> None:
    with pytest.raises(InvalidInput, match="max_steps must be from 0 to 100000, got -1"):
        make_hasher("ksh", max_steps=-1).fit(X, y)
