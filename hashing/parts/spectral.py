"""Eigenvectors without arbitrary choices, so that the same data give the same encoder."""

from __future__ import annotations

import numpy as np

from hashing.arrays import Float64Array

# Eigenvalues this close to each other, relative to the largest, count as equal.
EQUAL = 1e-8
# `coarse` rounds to multiples of about the largest entry divided by this.
STEPS = 2**16


def eigenvectors(A: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return eigenvalues, largest first, and eigenvectors (columns) of a symmetric matrix.

    For a multiple eigenvalue any basis of its space would do, and for a single one either sign of
    its eigenvector; rounding would decide. Here the basis is the one in which a fixed diagonal
    matrix of distinct entries is diagonal, and the first large entry of each column is positive.
    """
    from scipy.linalg import eigh

    values, vectors = eigh(A)
    values, vectors = values[::-1], vectors[:, ::-1].copy()
    gaps = np.flatnonzero(values[:-1] - values[1:] > EQUAL * np.abs(values).max()) + 1
    for start, end in zip([0, *gaps], [*gaps, len(values)], strict=True):
        if end - start > 1:
            space = vectors[:, start:end]
            form = space.T @ (np.sqrt(np.arange(len(A)))[:, None] * space)
            vectors[:, start:end] = space @ eigh(form)[1]
    return values, vectors * _signs(vectors)


def _signs(vectors: Float64Array) -> Float64Array:
    """Return the sign of each column's first entry of at least 0.7 times its largest magnitude."""
    size = np.abs(vectors)
    first = (size >= 0.7 * size.max(axis=0)).argmax(axis=0)
    return np.where(vectors[first, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)


def coarse(W: Float64Array) -> Float64Array:
    """Round W to a fixed step per column, about 1e-5 of the column's largest entry.

    Matrix products and decompositions round differently on one thread than on two. The difference
    is far below this step, so rounding makes the result the same. An exact zero stays zero.
    """
    _, exponent = np.frexp(np.abs(W).max(axis=0))
    step = np.ldexp(1.0 / STEPS, exponent)
    # Adding 0 turns -0.0, from a small negative number, into the 0.0 of a small positive one.
    return np.asarray(np.rint(W / step) * step + 0.0)
