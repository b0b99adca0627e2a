"""The noise that is added to descriptors in training unless the user chooses another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import row_blocks
from hashing.parts.blas import one_blas_thread

NOISE_ROWS = 1000
LARGEST_SHARE = 0.5
"""Most noise, as a share of the `typical_spread`."""


def default_noise(values: NDArray[np.float32], low: float) -> float:
    """Return √(NOISE_ROWS / n) for n standardised rows, at least `low`, within LARGEST_SHARE.

    The fewer the rows, the more noise keeps a net from learning them by heart. Noise that reaches
    the spread of the rows themselves hides the classes, so half of that is the limit.
    """
    high = max(low, LARGEST_SHARE * typical_spread(values))
    return float(np.clip((NOISE_ROWS / len(values)) ** 0.5, low, high))


def typical_spread(values: NDArray[np.float32]) -> float:
    """Return √(Σλ² / Σλ) for the eigenvalues λ of the covariance of centred rows (n, d).

    It is the standard deviation along a principal direction, where directions count by their
    variance: 1 for independent standardised dimensions, more the more they depend on each other.
    The mean of ⟨x, x'⟩² over pairs of different rows estimates Σλ² without bias, also from few
    rows.
    """
    n, d = values.shape
    product = np.zeros((d, d), np.float32)
    total, same = 0.0, 0.0
    with one_blas_thread():
        for rows in row_blocks(values):
            block = values[rows]
            product += block.T @ block
            squares = np.einsum("ij,ij->i", block, block, dtype=np.float64)
            total += float(squares.sum())
            same += float((squares**2).sum())
    pairs = float(np.einsum("ij,ij->", product, product, dtype=np.float64)) - same
    if total <= 0 or n < 2:
        return 0.0
    return float(np.sqrt(max(pairs, 0.0) / ((n - 1) * total)))
