"""How deep in the order of Hamming distances the true neighbours of items are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitcodes import distances_to
from index.backend import Moment
from index.callbacks import Checkpoint

# Items whose descriptors, and whose codes, are compared at once, which bounds the memory.
_DESCRIPTORS = 2048
_CODES = 1 << 16
_SEED = 0
# Most items whose descriptors are read as possible neighbours, which takes about half a minute.
_MOST_READ = 1_000_000


def neighbour_ranks(
    moment: Moment, n_bits: int, n_queries: int, k: int, checkpoint: Checkpoint
) -> NDArray[np.int64]:
    """Return at which depth a search by Hamming distance has surely found each true neighbour.

    The queries are items chosen at random, which do not find themselves. Their true neighbours are
    the nearest by the Euclidean distance of the descriptors that the collection keeps. The same
    items give the same depths.

    Among more than a million items, they are the nearest of a million that are chosen at random.
    These are farther than the true neighbours, so that the depths are rather too large, as far as
    farther items have codes that are farther. Depths are counted among all items.

    Parameters
    ----------
    moment : Moment
        The items, with descriptors.
    n_bits : int
    n_queries, k : int
        At most, as there may be fewer items.
    checkpoint : callable
        Called between the steps. It may raise to give up.

    Returns
    -------
    (q, k) int64
        How many items are as near as the neighbour, which is included, or nearer.
    """
    n = len(moment)
    if n < 2:
        return np.empty((n, 0), np.int64)
    rng = np.random.default_rng(_SEED)
    chosen = rng.choice(n, min(n_queries, n), replace=False)
    among = np.arange(n)
    if n > _MOST_READ:
        among = np.sort(rng.choice(n, _MOST_READ, replace=False))
    k = min(k, len(among) - 1)
    near = _true_neighbours(moment, chosen, among, k, checkpoint)
    return _depths(moment, n_bits, chosen, near, checkpoint)


def _true_neighbours(
    moment: Moment,
    chosen: NDArray[np.int64],
    among: NDArray[np.int64],
    k: int,
    checkpoint: Checkpoint,
) -> NDArray[np.int64]:
    """Return the places of the k nearest to each chosen place among some, by distance."""
    queries = moment.descriptors(chosen).astype(np.float64)
    best = np.empty((len(chosen), 0))
    places = np.empty((len(chosen), 0), np.int64)
    for first in range(0, len(among), _DESCRIPTORS):
        checkpoint()
        part = among[first : first + _DESCRIPTORS]
        X = moment.descriptors(part).astype(np.float64)
        # Up to the squared length of the query, which changes no order.
        distances = (X * X).sum(axis=1) - 2 * (queries @ X.T)
        distances[part == chosen[:, None]] = np.inf
        best = np.concatenate([best, distances], axis=1)
        places = np.concatenate([places, np.broadcast_to(part, distances.shape)], axis=1)
        if best.shape[1] > k:
            nearest = np.argpartition(best, k - 1, axis=1)[:, :k]
            best = np.take_along_axis(best, nearest, 1)
            places = np.take_along_axis(places, nearest, 1)
    return np.take_along_axis(places, np.argsort(best, axis=1, kind="stable"), 1)


def _depths(
    moment: Moment,
    n_bits: int,
    chosen: NDArray[np.int64],
    near: NDArray[np.int64],
    checkpoint: Checkpoint,
) -> NDArray[np.int64]:
    queries = moment.words(chosen)
    width = n_bits + 1
    counts = np.zeros((len(chosen), width), np.int64)
    for first in range(0, len(moment), _CODES):
        checkpoint()
        words = moment.words(np.arange(first, min(first + _CODES, len(moment))))
        for query, count in zip(queries, counts, strict=True):
            count += np.bincount(distances_to(query, words), minlength=width)
    distances = np.array(
        [
            distances_to(query, moment.words(each))
            for query, each in zip(queries, near, strict=True)
        ],
        np.int64,
    ).reshape(near.shape)
    # The query is at the distance 0 of itself.
    return np.take_along_axis(counts.cumsum(axis=1), distances, 1) - 1
