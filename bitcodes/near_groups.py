"""Groups of items whose codes are near one another, with all their pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words
from bitcodes.found_pairs import NearCodes
from bitcodes.near_pairs import Report, near_codes
from bitcodes.ragged import Integers, runs


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
        The Hamming distance of each pair.
    truncated : bool
        Pairs are missing, because there are more than the limit. The groups are complete.
    """

    rows: Integers
    sizes: Integers
    pairs: NDArray[np.uint32]
    distances: NDArray[np.uint16]
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
    n_items = np.bincount(near.root, counts, minlength=len(codes)).astype(np.int64)
    rows = np.flatnonzero(n_items[near.root[code_of]] > 1)
    rows, sizes = _in_groups(sort_rows(rows), near.root[code_of])
    pairs, distances = _pairs(code_of[rows], counts, near, limit)
    return Groups(rows, sizes, pairs, distances, near.truncated)


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


def _pairs(
    codes: Integers, counts: Integers, near: NearCodes, limit: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """Return the pairs of places, of which `codes` has the codes, and their distances."""
    # The places that have each code, one code after the other.
    places = np.argsort(codes, kind="stable")
    n_places = np.bincount(codes, minlength=len(counts))
    starts = np.cumsum(n_places) - n_places
    at = np.arange(len(places))
    left = np.repeat(starts + n_places, n_places) - at - 1
    firsts: list[NDArray[np.uint32]] = []
    seconds: list[NDArray[np.uint32]] = []
    distances: list[NDArray[np.uint16]] = []

    def expand(first: Integers, start: Integers, lengths: Integers, distance: Integers) -> None:
        """Add the pairs of one place with runs of others, as long as the limit allows them."""
        nonlocal limit
        ends = np.minimum(np.cumsum(lengths), limit)
        lengths = np.diff(ends, prepend=0)
        firsts.append(places[np.repeat(first, lengths)].astype(np.uint32))
        seconds.append(places[runs(start, lengths)].astype(np.uint32))
        distances.append(np.repeat(distance, lengths).astype(np.uint16))
        limit -= len(firsts[-1])

    expand(at, at + 1, left, np.zeros(len(at), np.int64))
    rows = counts[near.a]
    first = runs(starts[near.a], rows)
    start, lengths = (np.repeat(column[near.b], rows) for column in (starts, counts))
    expand(first, start, lengths, np.repeat(near.distance, rows).astype(np.int64))
    ends = np.column_stack([np.concatenate(firsts), np.concatenate(seconds)])
    ends.sort(axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    return ends[order], np.concatenate(distances)[order]
