"""Similar and dissimilar pairs, drawn from labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hashing.validation import InvalidInput

Pairs = NDArray[np.intp]
"""Pairs of rows, (p, 2)."""

# The memory that fits on pairs take grows with the number of pairs times that of dimensions.
MAX_PAIRS = 100_000


def labelled(y: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the positions of labelled rows; InvalidInput unless they have two classes or more."""
    rows = np.flatnonzero(y >= 0)
    n_classes = len(np.unique(y[rows]))
    if n_classes < 2:
        raise InvalidInput(f"labels of at least two classes are needed, got {n_classes}")
    return rows


def sample_pairs(
    y: NDArray[np.int64], n_pairs: int, rng: np.random.Generator
) -> tuple[Pairs, Pairs]:
    """Draw pairs of rows, with replacement, uniformly among all pairs of their kind.

    Parameters
    ----------
    y : (n,) int64
        Labels; rows with -1 are in no pair.
    n_pairs : int
        Pairs of each kind.
    rng : numpy.random.Generator

    Returns
    -------
    similar, dissimilar : (n_pairs, 2) intp
        Rows of two different items, of one class and of two classes.

    Raises
    ------
    InvalidInput
        Fewer than two classes, or no class with two items.
    """
    rows = labelled(y)
    rows = rows[np.argsort(y[rows], kind="stable")]
    _, first, sizes = np.unique(y[rows], return_index=True, return_counts=True)
    n = len(rows)
    n_similar = sizes * (sizes - 1)
    if not n_similar.any():
        raise InvalidInput("similar pairs need two labelled items of one class; each class has one")

    chosen = rng.choice(len(sizes), n_pairs, p=n_similar / n_similar.sum())
    i = rng.integers(0, sizes[chosen])
    j = rng.integers(0, sizes[chosen] - 1)
    j += j >= i
    similar = first[chosen, None] + np.stack([i, j], axis=1)

    # The probability of a class is proportional to its items times the items of all others.
    n_dissimilar = sizes * (n - sizes)
    chosen = rng.choice(len(sizes), n_pairs, p=n_dissimilar / n_dissimilar.sum())
    i = rng.integers(0, sizes[chosen])
    j = rng.integers(0, n - sizes[chosen])
    j += np.where(j >= first[chosen], sizes[chosen], 0)
    dissimilar = np.stack([first[chosen] + i, j], axis=1)
    return rows[similar], rows[dissimilar]
