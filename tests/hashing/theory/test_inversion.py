"""Recovery from relu layers against exact expectations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from hashing import InvalidInput
from hashing.theory.inversion import (
    back_project,
    errors,
    expected_error,
    forward,
    least_squares,
    principal_subspace,
    random_layers,
    sparse_projection,
)


def unit_vectors(n: int, d: int, seed: int = 0) -> NDArray[np.float64]:
    X = np.random.default_rng(seed).standard_normal((n, d))
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


@pytest.mark.parametrize("n_units", [50, 400])
def test_the_squared_error_of_back_projection_is_2_n_plus_3_over_m(n_units: int) -> None:
    U = unit_vectors(20, 10)
    squares = []
    for seed in range(200):
        layers = random_layers([10, n_units], seed)
        squares.append(np.square(back_project(forward(U, layers), layers) - U).sum(axis=1).mean())
    assert np.mean(squares) == pytest.approx(23 / n_units, rel=0.06)
    assert expected_error(10, n_units) == pytest.approx(math.sqrt(23 / n_units))


def test_back_projection_has_no_bias() -> None:
    U = unit_vectors(5, 6)
    found = []
    for seed in range(200):
        layers = random_layers([6, 100, 100], seed)
        found.append(back_project(forward(U, layers), layers))
    assert np.mean(found, axis=0) == pytest.approx(U, abs=0.1)


def test_enough_active_units_give_everything_back() -> None:
    U = np.random.default_rng(1).standard_normal((20, 15))
    layers = random_layers([15, 90])
    assert least_squares(forward(U, layers), layers[0]) == pytest.approx(U, abs=1e-10)


def test_errors_fall_with_units_and_grow_with_layers() -> None:
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 4)))[0]
    U = unit_vectors(100, 4) @ Q.T
    found = {
        (m, depth): np.mean(
            [errors(U, m, depth, lambda V: V @ Q @ Q.T, seed).value for seed in range(3)]
        )
        for m in (200, 800)
        for depth in (1, 2, 3)
    }
    assert found[200, 1] == pytest.approx(expected_error(4, 200), rel=0.2)
    assert found[800, 1] == pytest.approx(expected_error(4, 800), rel=0.2)
    for m in (200, 800):
        steps = np.diff([found[m, depth] for depth in (1, 2, 3)])
        assert (steps > 0).all()
    # At most linear, where the layers are wide.
    assert found[800, 3] <= 3.3 * found[800, 1]


def test_sparse_vectors_need_units_for_their_entries_only() -> None:
    rng = np.random.default_rng(0)
    U = np.zeros((40, 400))
    for u in U:
        u[rng.choice(400, 4, replace=False)] = rng.choice([-1, 1], 4)
    sparse = errors(U, 2000, 1, sparse_projection(4)).value
    assert sparse == pytest.approx(expected_error(4, 2000), rel=0.3)
    assert errors(U, 2000, 1, lambda V: V).value == pytest.approx(
        expected_error(400, 2000), rel=0.1
    )


def test_the_principal_subspace_is_that_of_the_data() -> None:
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((20, 3)))[0]
    X = rng.standard_normal((200, 3)) @ Q.T + 1e-6 * rng.standard_normal((200, 20))
    basis = principal_subspace(X, 3)
    assert basis @ basis.T == pytest.approx(Q @ Q.T, abs=1e-4)


def test_what_is_needed_is_said() -> None:
    with pytest.raises(InvalidInput, match="at least 1 descriptors, got 0"):
        errors(np.empty((0, 3)), 10, 1, lambda V: V)
    with pytest.raises(InvalidInput, match="needs vectors other than zero"):
        errors(np.diag([1.0, 0]), 10, 1, lambda V: V)
    with pytest.raises(InvalidInput, match="at least 2 descriptors, got 1"):
        principal_subspace(np.eye(1), 1)
    with pytest.raises(InvalidInput, match="these are constant"):
        principal_subspace(np.ones((5, 3)), 1)
    with pytest.raises(InvalidInput, match="k must be from 1 to 3, got 4"):
        principal_subspace(np.eye(3), 4)
