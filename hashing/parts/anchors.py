"""Anchors, a few points that represent the data, and similarity to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Matrix, NotFinite, row_blocks
from hashing.validation import InvalidInput


def squared_distances(X: Matrix, anchors: NDArray[np.float32]) -> Matrix:
    """Return squared Euclidean distances, (n, d) and (m, d) to (n, m), in the dtype of X.

    Raises
    ------
    NotFinite
        A row of X is not finite. What is computed from distances could hide that.
    """
    norms = np.einsum("ij,ij->i", X, X)
    if not np.isfinite(norms).all():
        raise NotFinite
    exact: Any = anchors.astype(X.dtype, copy=False)
    distances: Matrix = X @ exact.T
    distances *= -2
    distances += norms[:, None]
    distances += np.einsum("ij,ij->i", exact, exact)
    return np.maximum(distances, 0, out=distances)


def sample(X: NDArray[Any], n_anchors: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return `n_anchors` distinct rows of X, drawn uniformly, or all rows if X has fewer."""
    rows = rng.choice(len(X), min(n_anchors, len(X)), replace=False)
    return X[np.sort(rows)].astype(np.float32)


def kmeans(
    X: NDArray[Any], n_anchors: int, rng: np.random.Generator, *, rounds: int
) -> NDArray[np.float32]:
    """Return the cluster centres of Lloyd's algorithm; an empty cluster keeps its centre.

    The first centres are sampled rows. Libraries do not guarantee what this needs: the same seed
    gives the same centres on any number of threads, because numpy sums in the order of the rows.
    """
    centres = sample(X, n_anchors, rng)
    for _ in range(rounds):
        sums = np.zeros(centres.shape)
        counts = np.zeros(len(centres), np.int64)
        for rows in row_blocks(X):
            block = X[rows].astype(np.float64)
            nearest = squared_distances(block, centres).argmin(axis=1)
            order = np.argsort(nearest, kind="stable")
            present, first = np.unique(nearest[order], return_index=True)
            sums[present] += np.add.reduceat(block[order], first, axis=0)
            counts += np.bincount(nearest, minlength=len(centres))
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None]
    return centres


def rbf(distances: Matrix, width: float) -> Matrix:
    """Return exp(-distances / (2 width²)) of squared distances; overwrites them."""
    distances /= -2 * width**2
    return np.exp(distances, out=distances)


def check_width(width: NDArray[np.float32]) -> None:
    """Raise InvalidInput unless the kernel width, (1,), is above zero."""
    if not width.item() > 0:
        raise InvalidInput(f"width_ must be above 0, got {width.item()}")
