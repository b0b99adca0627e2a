"""Pairs of items of a collection: their Hamming distances, and the angles of their descriptors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.service.measured.kept import Checkpoint
from bitcodes import distances_to, paired_distances
from index.backend import Moment

Places = NDArray[np.int64]

# Items whose distances to others are computed, and the most comparisons of 64-bit words for that.
_ITEMS = 512
_COMPARED = 1 << 26
# Most pairs whose descriptors are compared, and those that are read at a time.
_PAIRS = 1 << 15
_BLOCK = 1 << 11
# Pairs whose codes are compared at a time.
_CODES = 1 << 16
# Descriptors shorter than this, relative to the longest, have no direction.
_NO_LENGTH = 1e-9


class Pairs(NamedTuple):
    """Pairs of items by their places in a moment, with their Hamming distances."""

    first: Places
    second: Places
    distances: NDArray[np.int64]


def pairs_by_distance(moment: Moment, n_bits: int, seed: int, checkpoint: Checkpoint) -> Pairs:
    """Return random pairs of different items, about as many at each distance that occurs.

    Among all pairs at a distance, each is drawn with the same probability. Of far pairs there are
    millions, and of near ones, which queries find, few: those all are returned.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(moment))
    width = -(-n_bits // 64)
    n_items = min(_ITEMS, max(len(order) - 1, 0))
    order = order[: max(n_items + 1, _COMPARED // (_ITEMS * width))]
    words = moment.words(order)

    def distances(place: int) -> NDArray[np.unsignedinteger]:
        # Only to items after it, so that no pair occurs twice.
        return distances_to(words[place], words[place + 1 :])

    counts = np.zeros(n_bits + 1, np.int64)
    for place in range(n_items):
        counts += np.bincount(distances(place), minlength=n_bits + 1)
        checkpoint()
    each = _PAIRS // max(1, int(np.count_nonzero(counts)))
    share = np.minimum(1, each / np.maximum(counts, 1))
    found: list[tuple[Places, Places, NDArray[np.int64]]] = []
    for place in range(n_items):
        d = distances(place)
        chosen = np.flatnonzero(rng.random(len(d)) < share[d])
        found.append(
            (
                np.full(len(chosen), order[place]),
                order[place + 1 + chosen],
                d[chosen].astype(np.int64),
            )
        )
        checkpoint()
    if not found:
        none = np.empty(0, np.int64)
        return Pairs(none, none, none)
    return Pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def angles_of(
    moment: Moment, pairs: Pairs, checkpoint: Checkpoint
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the distances and angles of pairs, seen from the mean of the descriptors.

    Pairs are left out in which a descriptor is at the mean, where it has no direction.
    """
    from hashing.theory.samples import angles_between

    items = np.unique(pairs.first)
    X = moment.descriptors(items).astype(np.float64)
    if not len(X):
        return pairs.distances, np.empty(0)
    mean = X.mean(axis=0)
    X -= mean
    least = _NO_LENGTH * max(float(np.abs(mean).max()), float(np.linalg.norm(X, axis=1).max()))
    U, has_length = _directions(X, least)
    distances, angles = [], []
    # In this order, each descriptor is read once.
    order = np.argsort(pairs.second, kind="stable")
    for start in range(0, len(order), _BLOCK):
        checkpoint()
        part = order[start : start + _BLOCK]
        others, place = np.unique(pairs.second[part], return_inverse=True)
        V, others_have = _directions(moment.descriptors(others) - mean, least)
        at = np.searchsorted(items, pairs.first[part])
        used = has_length[at] & others_have[place]
        angles.append(angles_between(U[at[used]], V[place[used]]))
        distances.append(pairs.distances[part][used])
    return np.concatenate(distances), np.concatenate(angles)


def distance_counts(
    moment: Moment, first: Places, second: Places, n_bits: int, checkpoint: Checkpoint
) -> NDArray[np.int64]:
    """Return how many of some pairs there are at each distance from 0 to n_bits."""
    counts = np.zeros(n_bits + 1, np.int64)
    width = -(-n_bits // 64)
    step = max(1, _CODES // width)
    for start in range(0, len(first), step):
        checkpoint()
        part = slice(start, start + step)
        d = paired_distances(moment.words(first[part]), moment.words(second[part]))
        counts += np.bincount(d, minlength=n_bits + 1)
    return counts


def _directions(
    X: NDArray[np.float64], least: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return rows scaled to length 1, and which of them are longer than `least`."""
    norms = np.linalg.norm(X, axis=1)
    has_length = norms > least
    return X / np.where(has_length, norms, 1)[:, None], has_length
