"""Centering and scaling learned in `fit`, shared by the methods that have them as options."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def moments(
    X: NDArray[Any], *, center: bool, scale: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The shift and the divisor of each dimension.

    Parameters
    ----------
    X : (n, d)
    center : bool
        Shift by the mean; else by 0.
    scale : bool
        Divide by the standard deviation; else by 1. A constant dimension is divided by 1.

    Returns
    -------
    shift, divisor : (d,) float64
    """
    d = X.shape[1]
    shift = X.mean(axis=0, dtype=np.float64) if center else np.zeros(d)
    divisor = np.ones(d)
    if scale:
        spread = X.std(axis=0, dtype=np.float64)
        # Rounding leaves a constant dimension with a spread near, not at, zero.
        largest = np.maximum(-X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64))
        constant = spread <= 1e-7 * np.abs(largest)
        divisor = np.where(constant, 1.0, spread)
    return shift, divisor


def fold(
    A: NDArray[np.float64], shift: NDArray[np.float64], divisor: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights and bias such that x·weights + bias = A ((x - shift) / divisor): one product.

    `A` is (m, d); weights are (d, m), bias (m,). The sum is numpy's own, not BLAS's, so that it
    is the same on any number of threads.
    """
    weights = (A / divisor).T.astype(np.float32, order="C")
    bias = -(weights.astype(np.float64) * shift[:, None]).sum(axis=0)
    return weights, bias.astype(np.float32)
