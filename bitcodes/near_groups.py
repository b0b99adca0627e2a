"""Groups of items whose codes are near one another, with all their pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words, distance_type
from bitcodes.found_pairs import NearCodes
from bitcodes.near_pairs import Report, near_codes
from bitcodes.ragged import Integers, blocks, runs

# Pairs, or words of pairs, that are worked on at once.
_BLOCK = 1 << 16
_HALF = np.uint64(32)


@dataclass(frozen=True)
class Groups:
    """Items that are near another one, and how they are connected.

    Attributes
    ----------
    rows : (m,) int64
        Rows of the items: those of the first group, then those of the second, and so on. The
        largest group comes first; items, and groups of one size, are in the order of their ids.
    sizes : (g,) int64
        The number of items of each group, at least 2.
    pairs : (p, 2) uint32
        Places in `rows`, the smaller one first, in ascending order.
    distances : (p,) uint16
        The Hamming distance of each pair; uint32 for codes of more than 65,472 bits.
    truncated : bool
        Pairs are missing, because there are more than the limit. The groups are complete.
    """

    rows: Integers
    sizes: Integers
    pairs: NDArray[np.uint32]
    distances: NDArray[np.unsignedinteger]
    truncated: bool


def near_groups(
    words: Words,
    radius: int,
    limit: int,
    sort_rows: Callable[[Integers], Integers],
    report: Report = lambda share: None,
) -> Groups:
    """Return the connected components of the items whose codes are within `radius` of another.

    Parameters
    ----------
    words : (n, words) uint64
        The codes of the items.
    radius : int
        Largest Hamming distance of a pair.
    limit : int
        Largest number of pairs to return: first those of equal codes, then those found first.
    sort_rows : callable
        Takes some rows and returns them in the order of the ids.
    report : callable
        Called with the share of the work that is done, again and again. It may raise to give up.
    """
    order, counts = _distinct(words)
    codes = words[order[np.cumsum(counts) - counts]]
    n_equal = int((counts * (counts - 1) // 2).sum())
    near = near_codes(codes, counts, radius, limit - n_equal, report)
    code_of = np.empty(len(words), np.int64)
    code_of[order] = np.repeat(np.arange(len(codes)), counts)
    group_of = near.root[code_of]
    rows = np.flatnonzero(np.bincount(group_of, minlength=len(codes))[group_of] > 1)
    rows, sizes = _in_groups(sort_rows(rows), group_of)
    pairs = _pairs(code_of[rows], counts, near, limit)
    return Groups(rows, sizes, pairs, _distances(words, rows, pairs), near.truncated)


def _distinct(words: Words) -> tuple[Integers, Integers]:
    """Return rows in the order of their codes, and how many share each code."""
    one_word = words.shape[1] == 1
    order = np.argsort(words[:, 0], kind="stable") if one_word else np.lexsort(words.T)
    new = np.ones(len(words), bool)
    for first in range(1, len(words), 1 << 16):
        here, before = order[first : first + (1 << 16)], order[first - 1 : first + (1 << 16) - 1]
        before = before[: len(here)]
        new[first : first + len(here)] = (words[here] != words[before]).any(axis=1)
    return order, np.diff(np.flatnonzero(new), append=len(words))


def _in_groups(rows: Integers, group_of: Integers) -> tuple[Integers, Integers]:
    """Return rows, which are in the order of their ids, group by group; and the groups' sizes."""
    _, first, group, sizes = np.unique(
        group_of[rows], return_index=True, return_inverse=True, return_counts=True
    )
    by_size = np.lexsort((first, -sizes))
    rank = np.empty(len(by_size), np.int64)
    rank[by_size] = np.arange(len(by_size))
    return rows[np.argsort(rank[group], kind="stable")], sizes[by_size]


def _pairs(codes: Integers, counts: Integers, near: NearCodes, limit: int) -> NDArray[np.uint32]:
    """Return the pairs of places, of which `codes` has the codes, in ascending order."""
    # The places that have each code, one code after the other.
    places = np.argsort(codes, kind="stable")
    n_places = np.bincount(codes, minlength=len(counts))
    starts = np.cumsum(n_places) - n_places
    # A pair as one number, so that they are sorted fast and in place.
    keys = np.empty(0, np.uint64)
    n = 0

    def expand(first: Integers, start: Integers, lengths: Integers) -> None:
        """Add the pairs of one place with runs of others, as long as the limit allows them."""
        nonlocal keys, n
        lengths = np.diff(np.minimum(np.cumsum(lengths), limit - n), prepend=0)
        a = places[np.repeat(first, lengths)].astype(np.uint64)
        b = places[runs(start, lengths)].astype(np.uint64)
        if n + len(a) > len(keys):
            keys = np.append(keys, np.empty(len(a) + (n + len(a)) // 2, np.uint64))
        keys[n : n + len(a)] = np.minimum(a, b) << _HALF | np.maximum(a, b)
        n += len(a)

    at = np.arange(len(places))
    left = np.repeat(starts + n_places, n_places) - at - 1
    for part in blocks(left, _BLOCK):
        if n == limit:
            break
        expand(at[part], at[part] + 1, left[part])
    for begin in range(0, len(near.a), _BLOCK):
        a, b = near.a[begin : begin + _BLOCK], near.b[begin : begin + _BLOCK]
        for part in blocks(counts[a] * counts[b], _BLOCK):
            if n == limit:
                break
            rows = counts[a[part]]
            first = runs(starts[a[part]], rows)
            expand(first, *(np.repeat(column[b[part]], rows) for column in (starts, counts)))
    keys = keys[:n]
    keys.sort()
    pairs = np.empty((n, 2), np.uint32)
    pairs[:, 0], pairs[:, 1] = keys >> _HALF, keys
    return pairs


def _distances(
    words: Words, rows: Integers, pairs: NDArray[np.uint32]
) -> NDArray[np.unsignedinteger]:
    """Return the distance of each pair of places in `rows`."""
    n_words = words.shape[1]
    distances = np.zeros(len(pairs), np.result_type(np.uint16, distance_type(n_words)))
    step = max(1, _BLOCK // n_words)
    for first in range(0, len(pairs), step):
        part = slice(first, first + step)
        a, b = (words[rows[pairs[part, end]]] for end in (0, 1))
        np.bitwise_count(a ^ b).sum(axis=1, dtype=distances.dtype, out=distances[part])
    return distances
