"""What the laws share: an estimate with its error, samples of items and pairs, random layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from hashing.arrays import Float64Array, row_blocks
from hashing.validation import InvalidInput, as_descriptors, as_labels, check_finite, check_int

LEVEL = 0.95
"""Level of the intervals of estimates."""

Indices = NDArray[np.intp]

# Rows whose distances to all items are computed at a time.
_BLOCK = 512
# Descriptors shorter than this, relative to the longest, have no direction.
_NO_LENGTH = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its interval, at `LEVEL` unless its source says otherwise."""

    value: float
    low: float
    high: float

    @classmethod
    def of_mean(cls, values: ArrayLike) -> Estimate:
        """Return the mean of independent values with Student's interval; one value has none."""
        values = np.asarray(values, np.float64)
        n, mean = len(values), float(np.mean(values))
        if n < 2:
            return cls(mean, math.nan, math.nan)
        half = float(stdtrit(n - 1, (1 + LEVEL) / 2) * values.std(ddof=1) / math.sqrt(n))
        return cls(mean, mean - half, mean + half)

    def times(self, factor: float) -> Estimate:
        """Return the estimate in other units: multiplied by a positive factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


def checked(X: ArrayLike, least: int, law: str) -> Float64Array:
    """Return descriptors as a float64 matrix; InvalidInput unless there are at least `least`."""
    X = as_descriptors(X)
    if len(X) < least:
        raise InvalidInput(f"{law} needs at least {least} descriptors, got {len(X)}")
    check_finite(X)
    return np.asarray(X, np.float64)


def directions(X: ArrayLike, least: int, law: str) -> Float64Array:
    """Return descriptors less their mean, scaled to length 1; those at the mean are left out.

    The laws of random hyperplanes are about angles seen from the mean, as `lsh` sees them.

    Raises
    ------
    InvalidInput
        There are fewer than `least` descriptors, or fewer that differ from the mean.
    """
    centred = checked(X, least, law)
    centred = centred - centred.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1)
    # Of equal descriptors, nothing but rounding is left after the mean is subtracted.
    kept = norms > _NO_LENGTH * max(float(norms.max()), 1e-300)
    if not np.ptp(centred, axis=0).any() or kept.sum() < least:
        raise InvalidInput(
            f"{law} needs at least {least} descriptors that differ from their mean: "
            f"{int(kept.sum()) if np.ptp(centred, axis=0).any() else 0} do"
        )
    return np.asarray(centred[kept] / norms[kept, None])


def classes_of(y: ArrayLike | None, n: int, law: str, least: int = 2) -> NDArray[np.int64]:
    """Return labels; InvalidInput unless two classes have at least `least` labelled items each."""
    labels = np.full(n, -1) if y is None else as_labels(y, n)
    names, sizes = np.unique(labels[labels >= 0], return_counts=True)
    if not len(names):
        raise InvalidInput(f"{law} needs labels: no item has one")
    if (sizes >= least).sum() < 2:
        raise InvalidInput(
            f"{law} needs at least two classes with {least} labelled items each: {len(names)} "
            f"{'class has' if len(names) == 1 else 'classes have'} labels, the largest "
            f"{sizes.max()} of them"
        )
    return labels


def sample(n: int, size: int, seed: int) -> Indices:
    """Return the sorted positions of at most `size` of n items, drawn without replacement."""
    if n <= size:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size, replace=False))


def random_pairs(n: int, size: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Return `size` random pairs of different items among n."""
    check_int("n", n, 2, 2**62)
    first = rng.integers(n, size=size)
    second = (first + rng.integers(1, n, size=size)) % n
    return first.astype(np.intp), second.astype(np.intp)


def disjoint_pairs(n: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Return n // 2 random pairs in which no item occurs twice: they are independent."""
    order = rng.permutation(n)
    half = n // 2
    return order[:half], order[half : 2 * half]


def angles_between(u: Float64Array, v: Float64Array) -> Float64Array:
    """Return the angles between the rows of two matrices of unit vectors, in radians."""
    # The arc cosine of a rounded cosine is wrong by 1e-8 for vectors that are nearly equal.
    return np.asarray(2 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1)))


def unit(X: Float64Array) -> Float64Array:
    """Return the rows scaled to length 1; a zero row stays zero."""
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(norms > 0, norms, 1))


def relu_layer(X: Float64Array, n_units: int, rng: np.random.Generator) -> Float64Array:
    """Return ρ(A x) of a random layer with a_ij ~ N(0, 1/m), m = `n_units`: (n, m)."""
    A = rng.normal(0, 1 / math.sqrt(n_units), (X.shape[1], n_units))
    return np.maximum(X @ A, 0)


def squared_distances(X: Float64Array, Y: Float64Array) -> Iterator[tuple[slice, Float64Array]]:
    """Yield the squared Euclidean distances of all rows of X to all rows of Y, in blocks of X."""
    squares = np.einsum("ij,ij->i", Y, Y)
    for rows in row_blocks(X, _BLOCK):
        block = X[rows] @ Y.T
        block *= -2
        block += squares
        block += np.einsum("ij,ij->i", X[rows], X[rows])[:, None]
        yield rows, np.maximum(block, 0, out=block)
