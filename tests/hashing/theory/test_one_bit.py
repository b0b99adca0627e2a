"""Recovery from sign codes against exact expectations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from hashing import InvalidInput
from hashing.theory.one_bit import expected_squared_error, recover_directions, regression_recovery


def bits_of(X: NDArray[np.float64], m: int, seed: int = 0) -> NDArray[np.uint8]:
    A = np.random.default_rng(seed).standard_normal((X.shape[1], m))
    return (X @ A > 0).astype(np.uint8)


@pytest.mark.parametrize("m", [64, 1024])
def test_the_squared_error_is_half_pi_n_less_one_over_m(m: int) -> None:
    rng = np.random.default_rng(0)
    U = rng.standard_normal((20, 12))
    U /= np.linalg.norm(U, axis=1, keepdims=True)
    squares = []
    for _ in range(40):
        A = rng.standard_normal((12, m))
        squares.append(np.square(recover_directions(np.sign(U @ A), A) - U).sum(axis=1).mean())
    assert np.mean(squares) == pytest.approx(expected_squared_error(12, m), rel=0.06)
    assert expected_squared_error(12, m) == pytest.approx((6 * math.pi - 1) / m)


def test_regression_finds_what_is_linear_in_one_bit() -> None:
    # One Gaussian and its sign: the best prediction √(2/π) sign(x) leaves 1 − 2/π.
    X = np.random.default_rng(0).standard_normal((20000, 1))
    found = regression_recovery(X, (X > 0).astype(np.uint8))
    assert found.lost.value == pytest.approx(1 - 2 / math.pi, abs=0.02)
    assert found.lost.low <= 1 - 2 / math.pi <= found.lost.high
    assert found.cosine.value == pytest.approx(1, abs=0.02)


def test_more_bits_give_more_of_the_descriptor_away() -> None:
    X = np.random.default_rng(0).standard_normal((2000, 10))
    lost = [regression_recovery(X, bits_of(X, m)).lost.value for m in (4, 16, 64)]
    assert lost[0] > lost[1] > lost[2]
    assert lost[2] < 0.2


def test_bits_without_information_give_nothing_away() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 10))
    found = regression_recovery(X, rng.integers(0, 2, (2000, 16)).astype(np.uint8))
    assert found.lost.value == pytest.approx(1, abs=0.03)
    assert found.cosine.value == pytest.approx(0, abs=0.03)
    assert regression_recovery(X, np.ones((2000, 8), np.uint8)).lost.value == pytest.approx(
        1, abs=0.01
    )


def test_what_is_needed_is_said() -> None:
    with pytest.raises(InvalidInput, match="at least 20 descriptors, got 19"):
        regression_recovery(np.eye(19), np.ones((19, 8), np.uint8))
    with pytest.raises(InvalidInput, match="these are constant"):
        regression_recovery(np.full((30, 2), 0.1), np.ones((30, 8), np.uint8))
