"""Eigenvectors without a choice left open, so that the same data give the same encoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Eigenvalues this near to each other, relative to the largest, count as one.
SAME = 1e-8
# `coarse` keeps multiples of the largest entry over this.
STEPS = 2**16


def eigenvectors(A: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues, largest first, and eigenvectors (columns) of a symmetric matrix.

    Where an eigenvalue is multiple, any basis of its space would do, and each sign of a single
    eigenvector: rounding would choose. Here the basis is the one in which a fixed diagonal matrix
    of distinct entries is diagonal, and the first entry that is large in its column is positive.
    """
    from scipy.linalg import eigh

    values, vectors = eigh(A)
    values, vectors = values[::-1], vectors[:, ::-1].copy()
    gaps = np.flatnonzero(values[:-1] - values[1:] > SAME * np.abs(values).max()) + 1
    for start, end in zip([0, *gaps], [*gaps, len(values)], strict=True):
        if end - start > 1:
            space = vectors[:, start:end]
            form = space.T @ (np.sqrt(np.arange(len(A)))[:, None] * space)
            vectors[:, start:end] = space @ eigh(form)[1]
    return values, vectors * _signs(vectors)


def _signs(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each column's first entry that is at least 0.7 of its largest, in magnitude."""
    size = np.abs(vectors)
    first = (size >= 0.7 * size.max(axis=0)).argmax(axis=0)
    return np.where(vectors[first, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)


def coarse(W: NDArray[np.float64]) -> NDArray[np.float64]:
    """`W` rounded to a fixed step a column, about 1e-5 of the column's largest entry.

    Matrix products and decompositions round differently on one thread and on two. That is far
    below this step, so what is learned is the same; and an exact zero stays one.
    """
    _, exponent = np.frexp(np.abs(W).max(axis=0))
    step = np.ldexp(1.0 / STEPS, exponent)
    # Adding 0 turns -0.0, of a small negative rounded, into the 0.0 of a small positive.
    return np.asarray(np.rint(W / step) * step + 0.0)
