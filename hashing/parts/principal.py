"""Principal directions, for the methods that start from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Float64Array, row_blocks
from hashing.parts.spectral import coarse, eigenvectors
from hashing.validation import InvalidInput

RANK_TOLERANCE = 1e-10
"""Directions with less than this share of the first one's eigenvalue hold only rounding errors."""


def scatter(X: NDArray[Any]) -> tuple[Float64Array, Float64Array]:
    """Return mean (d,) and covariance (d, d) of the rows in float64.

    A constant dimension has a variance of exactly zero.
    """
    first = X[0].astype(np.float64)
    total = np.zeros(len(first))
    for rows in row_blocks(X):
        total += (X[rows] - first).sum(axis=0)
    mean = first + total / len(X)
    covariance = np.zeros((len(mean), len(mean)))
    for rows in row_blocks(X):
        block = X[rows] - mean
        covariance += block.T @ block
    return mean, covariance / len(X)


def principal_directions(X: NDArray[Any], k: int) -> tuple[Float64Array, Float64Array]:
    """Return the mean (d,) and the k leading principal directions (d, k), of length 1.

    There are fewer directions than k if the descriptors vary in fewer. They are rounded, so that
    the same data give the same on any number of threads.

    Raises
    ------
    InvalidInput
        All descriptors are the same.
    """
    mean, covariance = scatter(X)
    if not covariance.any():
        raise InvalidInput("all descriptors are the same: they vary in no direction")
    values, W = eigenvectors(covariance)
    kept = values[:k] > RANK_TOLERANCE * values[0]
    return mean, coarse_for(covariance, W[:, :k][:, kept])


def coarse_for(covariance: Float64Array, A: Float64Array) -> Float64Array:
    """Return A (d, k), rounded with the same effect in every dimension, whatever its unit."""
    unit = np.ldexp(1.0, np.frexp(np.sqrt(np.diag(covariance)))[1])[:, None]
    return np.asarray(coarse(A * unit) / unit)
