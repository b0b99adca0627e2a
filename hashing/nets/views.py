"""The features of the rows that a classifier sees, standardised, and the noise added to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Matrix, row_blocks
from hashing.parts.blas import one_blas_thread
from hashing.parts.linear import Layer
from hashing.parts.moments import fold, moments
from hashing.validation import InvalidInput

Rows = NDArray[np.intp] | slice

NOISE_ROWS = 1000
SPREAD_ROWS = 2000
LARGEST_SHARE = 0.5
"""Most noise, as a share of the `typical_spread`."""


@dataclass(frozen=True)
class View:
    """One kind of features of all rows.

    Attributes
    ----------
    values : (n, d) float32
        Standardised.
    mirror : (d,) intp, or None
        ``values[:, mirror]`` are the features of the mirror images.
    """

    values: NDArray[np.float32]
    mirror: NDArray[np.intp] | None = None

    def at(self, rows: Rows) -> View:
        """Return the view of some rows."""
        return View(self.values[rows], self.mirror)

    def images(self, rows: Rows) -> list[NDArray[np.float32]]:
        """Return the features of some rows and, if there are any, of their mirror images."""
        values = self.values[rows]
        return [values] if self.mirror is None else [values, values[:, self.mirror]]


def as_mirror(mirror: Sequence[int] | None) -> NDArray[np.intp] | None:
    """Return the columns of mirror images as an array."""
    return None if mirror is None else np.asarray(mirror, np.intp)


def default_power(X: NDArray[Any]) -> float:
    """Return 0.5 if no descriptor has a negative value, else 1."""
    return 0.5 if X.min() >= 0 else 1.0


def raise_to_power(X: Matrix, power: float) -> Matrix:
    """Return sign(x)·|x|^power in the dtype of X; X itself if the power is 1."""
    if power == 1:
        return X
    size = np.abs(X)
    size = np.sqrt(size, out=size) if power == 0.5 else size**power
    return np.copysign(size, X, out=size)


def standardised(
    X: NDArray[Any], power: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return X raised to the power and standardised, with the shift and the divisor."""
    raised = raise_to_power(X.astype(np.float64), power)
    shift, divisor = moments(raised, center=True, scale=True)
    raised -= shift
    raised /= divisor
    return raised.astype(np.float32), shift, divisor


def for_raw_rows(
    layers: Sequence[Layer], shift: NDArray[np.float64], divisor: NDArray[np.float64]
) -> list[Layer]:
    """Return trained layers whose first one includes the standardisation.

    Raises
    ------
    InvalidInput
        Training diverged: a weight is not finite.
    """
    if not all(np.isfinite(array).all() for layer in layers for array in layer):
        raise InvalidInput(
            "training diverged: the weights are not finite; a smaller noise may help"
        )
    (weights, bias), *others = layers
    folded, offset = fold(weights.T.astype(np.float64), shift, divisor)
    return [(folded, bias + offset), *others]


def scaled(F: NDArray[Any]) -> NDArray[np.float32]:
    """Return F centred, and divided by one number: the root of the mean variance of its columns.

    Columns keep their relative sizes, which principal components and embeddings rely on.
    """
    mean = F.mean(axis=0, dtype=np.float64)
    centred = np.empty(F.shape, np.float32)
    for rows in row_blocks(F):
        centred[rows] = F[rows] - mean
    spread = float(np.sqrt(np.einsum("ij,ij->", centred, centred, dtype=np.float64) / F.size))
    centred /= np.float32(spread or 1.0)
    return centred


def default_noise(values: NDArray[np.float32], low: float) -> float:
    """Return √(NOISE_ROWS / n) for n standardised rows, at least `low`, within LARGEST_SHARE.

    The fewer the rows, the more noise keeps a net from learning them by heart. Noise that reaches
    the spread of the rows themselves hides the classes, so half of that is the limit.
    """
    noise = float((NOISE_ROWS / len(values)) ** 0.5)
    if noise <= low:
        return low
    return min(noise, max(low, LARGEST_SHARE * typical_spread(values)))


def typical_spread(values: NDArray[np.float32]) -> float:
    """Return √(Σλ² / Σλ) for the eigenvalues λ of the covariance of centred rows (n, d).

    It is the standard deviation along a principal direction, where directions count by their
    variance: 1 for independent standardised dimensions, more the more they depend on each other.
    The mean of ⟨x, x'⟩² over pairs of different rows estimates Σλ² without bias, also from few
    rows; at most SPREAD_ROWS are used.
    """
    values = values[:: -(-len(values) // SPREAD_ROWS)]
    with one_blas_thread():
        products = values @ values.T
    squares = products.diagonal().astype(np.float64)
    pairs = float(np.einsum("ij,ij->", products, products, dtype=np.float64))
    pairs -= float((squares**2).sum())
    if squares.sum() <= 0 or len(values) < 2:
        return 0.0
    return float(np.sqrt(max(pairs, 0.0) / ((len(values) - 1) * squares.sum())))
