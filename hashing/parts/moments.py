"""Centering and scaling, learned by the methods that have them as options."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Float64Array, row_blocks


def moments(X: NDArray[Any], *, center: bool, scale: bool) -> tuple[Float64Array, Float64Array]:
    """Return the shift and the divisor of each dimension.

    Parameters
    ----------
    X : (n, d)
    center : bool
        Shift by the mean; otherwise by 0.
    scale : bool
        Divide by the standard deviation; otherwise by 1. A constant dimension is divided by 1.

    Returns
    -------
    shift, divisor : (d,) float64
    """
    d = X.shape[1]
    shift = X.mean(axis=0, dtype=np.float64) if center else np.zeros(d)
    divisor = np.ones(d)
    if scale:
        spread = X.std(axis=0, dtype=np.float64)
        # The spread of a constant dimension is not exactly zero, because of rounding.
        largest = np.maximum(-X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64))
        constant = spread <= 1e-7 * np.abs(largest)
        divisor = np.where(constant, 1.0, spread)
    return shift, divisor


def typical_length(X: NDArray[Any], shift: Float64Array, divisor: Float64Array) -> float:
    """Return the root mean square of ‖(x - shift) / divisor‖, or of ‖x / divisor‖ if that is 0.

    Return 1 if both are 0. numpy computes the sums, not BLAS, so they are the same on any number
    of threads.
    """
    squares, squares_from_zero = 0.0, 0.0
    for rows in row_blocks(X, 256):
        scaled = X[rows] / divisor
        squares_from_zero += float((scaled**2).sum())
        scaled -= shift / divisor
        squares += float((scaled**2).sum())
    # The rounding of the shift leaves a little of descriptors that are all the same.
    if squares <= 1e-14 * squares_from_zero:
        squares = squares_from_zero
    return math.sqrt(squares / len(X)) or 1.0


def fold(
    A: Float64Array, shift: Float64Array, divisor: Float64Array
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights and bias such that x·weights + bias = A ((x - shift) / divisor).

    `A` is (m, d), the weights are (d, m), the bias is (m,). numpy computes the sum, not BLAS, so
    it is the same on any number of threads.
    """
    weights = (A / divisor).T.astype(np.float32, order="C")
    bias = -(weights.astype(np.float64) * shift[:, None]).sum(axis=0)
    return weights, bias.astype(np.float32)
