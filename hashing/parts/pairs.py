"""Similar and dissimilar pairs, drawn from labels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hashing.labels import Labels, class_sizes, is_labelled
from hashing.validation import InvalidInput

Pairs = NDArray[np.intp]
"""Pairs of rows, (p, 2)."""

# The memory that fits on pairs take grows with the number of pairs times that of dimensions.
MAX_PAIRS = 100_000
# Pairs are drawn until enough are of their kind. Once _LEAST_DRAWN were, it has to be this share.
_LEAST_SHARE = 1 / 1000
_LEAST_DRAWN = 200_000
# Labels of pairs that are compared at a time: pairs times classes.
_LABELS = 1 << 26


def labelled(y: Labels) -> NDArray[np.intp]:
    """Return the positions of labelled rows; InvalidInput unless they have two classes or more."""
    n_classes = len(class_sizes(y))
    if n_classes < 2:
        raise InvalidInput(f"labels of at least two classes are needed, got {n_classes}")
    return np.flatnonzero(is_labelled(y))


def sample_pairs(y: Labels, n_pairs: int, rng: np.random.Generator) -> tuple[Pairs, Pairs]:
    """Draw pairs of rows, with replacement, uniformly among all pairs of their kind.

    Parameters
    ----------
    y : (n,) int64 or (n, c) bool
        Labels; rows without one are in no pair.
    n_pairs : int
        Pairs of each kind.
    rng : numpy.random.Generator

    Returns
    -------
    similar, dissimilar : (n_pairs, 2) intp
        Rows of two different items, that share a label and that share none.

    Raises
    ------
    InvalidInput
        Fewer than two classes, no class with two items, or hardly any pair that shares no label.
    """
    rows = labelled(y)
    if y.ndim == 2:
        similar, dissimilar = _pairs_of_sets(np.asarray(y[rows], bool), n_pairs, rng)
        return rows[similar], rows[dissimilar]
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


def _pairs_of_sets(
    Y: NDArray[np.bool_], n_pairs: int, rng: np.random.Generator
) -> tuple[Pairs, Pairs]:
    """Draw pairs of items with several labels, of which each has one."""
    n, sizes = len(Y), np.count_nonzero(Y, axis=0)
    n_drawn = max(1, min(n_pairs, _LABELS // Y.shape[1]))
    n_similar = sizes * (sizes - 1)
    if not n_similar.any():
        raise InvalidInput("similar pairs need two labelled items of one class; each class has one")
    # Row after row of the members of class 0, then of class 1, and so on.
    members = np.nonzero(Y.T)[1]
    first = np.cumsum(sizes) - sizes

    def similar() -> Pairs:
        chosen = rng.choice(len(sizes), n_drawn, p=n_similar / n_similar.sum())
        places = first[chosen, None] + _two_of(sizes[chosen], rng)
        pairs = members[places]
        # A pair that shares several classes is drawn more often, in proportion to their number.
        # Keeping it with the inverse of that number makes all pairs equally likely.
        shared = np.count_nonzero(Y[pairs[:, 0]] & Y[pairs[:, 1]], axis=1)
        return np.asarray(pairs[rng.random(n_drawn) * shared < 1])

    def dissimilar() -> Pairs:
        pairs = _two_of(np.full(n_drawn, n), rng)
        return np.asarray(pairs[~(Y[pairs[:, 0]] & Y[pairs[:, 1]]).any(axis=1)])

    return (
        _enough(similar, n_drawn, n_pairs, "share a label"),
        _enough(dissimilar, n_drawn, n_pairs, "share none"),
    )


def _two_of(sizes: NDArray[np.intp], rng: np.random.Generator) -> Pairs:
    """Return two different numbers from 0 to below each size."""
    i = rng.integers(0, sizes)
    j = rng.integers(0, sizes - 1)
    return np.stack([i, j + (j >= i)], axis=1)


def _enough(draw: Callable[[], Pairs], n_drawn: int, n_pairs: int, kind: str) -> Pairs:
    """Draw until there are `n_pairs`; `draw` keeps those of the right kind of `n_drawn`."""
    parts: list[Pairs] = []
    drawn = found = 0
    least = min(_LEAST_DRAWN, math.ceil(n_pairs / _LEAST_SHARE))
    while found < n_pairs:
        if drawn >= least and found < _LEAST_SHARE * drawn:
            raise InvalidInput(
                f"of {drawn:,} pairs of labelled items that were drawn, only {found:,} {kind}; "
                f"{n_pairs:,} are needed, and at least {_LEAST_SHARE:.1%} of those drawn"
            )
        parts.append(draw())
        drawn, found = drawn + n_drawn, found + len(parts[-1])
    return np.concatenate(parts)[:n_pairs]
