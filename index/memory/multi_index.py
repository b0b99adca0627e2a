"""Multi-index hashing: exact Hamming search that compares few codes.

Norouzi, Punjani, Fleet, "Fast Exact Search in Hamming Space with Multi-Index Hashing", PAMI 2014.
A code is cut into m substrings. Each has a table from its value to the codes that have it. A code
within distance m s + a of a query has a substring within s of the query's in one of the first
a + 1 tables, or within s - 1 in one of the others (section 3.2). So one step, which looks up the
values at distance s in one table, covers one more bit of distance.

Deviations: a table is indexed by the `width` most balanced bits of its substring, not by all of
them. The lookups then still meet every code that the proof needs, and the tables stay small
for long codes. A code that is met in several tables counts only at its first step. Its substrings
tell which step that is, so that no list of the codes met before is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words, bit_places, distance_type
from index.callbacks import Checkpoint

MAX_WIDTH = 24
# Pairs of a query and a value, or of a query and a code, per block, which bounds the memory.
_BLOCK_PAIRS = 1 << 20
# For fewer codes than this, all bits are taken at once, with a matrix of them in memory.
_FEW_CODES = 1024


@dataclass(frozen=True)
class Cut:
    """Which bits index each of m tables.

    Attributes
    ----------
    places : m arrays, (width,)
        The places of the bits within the words of a code.
    masks : (m, words) uint64
        The same bits, set.
    """

    places: tuple[NDArray[np.uint64], ...]
    masks: Words

    @classmethod
    def of(cls, words: Words, n_bits: int, n_tables: int) -> Cut:
        """Cut codes like `words` into equal substrings and take the most balanced bits of each."""
        width = min(MAX_WIDTH, max(4, len(words).bit_length()))
        sample = words[:: max(1, len(words) // 4096)]
        all_places = bit_places(n_bits)
        ones = np.array([_bits(sample, all_places[i : i + 1]).mean() for i in range(n_bits)])
        places, masks = [], np.zeros((n_tables, words.shape[1]), np.uint64)
        for table, bits in enumerate(np.array_split(np.arange(n_bits), n_tables)):
            best = np.sort(bits[np.argsort(np.abs(ones[bits] - 0.5), kind="stable")[:width]])
            places.append(all_places[best])
            for place in places[-1]:
                masks[table, place // 64] |= np.uint64(1) << (place % np.uint64(64))
        return cls(tuple(places), masks)


class Tables:
    """The tables of an array of codes, each as offsets into a list of rows.

    `checkpoint` is called after each table and may raise to give up.
    """

    def __init__(self, words: Words, cut: Cut, checkpoint: Checkpoint = lambda: None) -> None:
        self.cut = cut
        self._words = words
        self._offsets, self._rows = [], []
        for places in cut.places:
            keys = _bits(words, places)
            offsets = np.zeros((1 << len(places)) + 1, np.uint32)
            np.cumsum(np.bincount(keys, minlength=1 << len(places)), out=offsets[1:])
            self._offsets.append(offsets)
            self._rows.append(np.argsort(keys, kind="stable").astype(np.uint32))
            checkpoint()

    def __len__(self) -> int:
        return len(self.cut.places)

    @property
    def nbytes(self) -> int:
        """Memory that the tables occupy."""
        return sum(array.nbytes for array in (*self._offsets, *self._rows))

    def keys(self, queries: Words) -> list[NDArray[np.uint32]]:
        """Return for each table the substrings of the queries."""
        return [_bits(queries, places) for places in self.cut.places]

    def n_probes(self, table: int, distance: int) -> int:
        """Return how many values lie at this distance of a substring."""
        return n_flips(len(self.cut.places[table]), distance)

    def look_up(
        self,
        table: int,
        distance: int,
        keys: NDArray[np.uint32],
        queries: Words,
        checkpoint: Checkpoint,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Take the step (table, distance), which follows all steps of smaller distances.

        Parameters
        ----------
        table, distance : int
        keys : (q,)
            The substrings of the queries for this table.
        queries : (q, words)
        checkpoint : callable
            Called before each block of lookups. It may raise to give up.

        Returns
        -------
        query, row, distance : (h,)
            The codes that no earlier step has met.
        n_met : (q,)
            The number of codes that this step met for each query, earlier ones included.
        """
        flips = _flips(len(self.cut.places[table]), distance)
        found: list[tuple[NDArray[np.int64], ...]] = []
        n_met = np.zeros(len(keys), np.int64)
        block = max(1, _BLOCK_PAIRS // len(flips))
        for first in range(0, len(keys), block):
            checkpoint()
            part = slice(first, first + block)
            values = (keys[part, None] ^ flips).ravel()
            offsets = self._offsets[table]
            starts = offsets[values]
            sizes = offsets[values + np.uint32(1)] - starts
            hit = np.flatnonzero(sizes)
            starts, sizes = starts[hit], sizes[hit].astype(np.int64)
            ends = np.cumsum(sizes)
            for low, high in _slices(ends):
                query = np.repeat(hit[low:high] // len(flips) + first, sizes[low:high])
                skip = ends[low:high] - sizes[low:high] - starts[low:high]
                base = ends[low - 1] if low else 0
                places = np.arange(base, ends[high - 1]) - np.repeat(skip, sizes[low:high])
                row = self._rows[table][places]
                n_met += np.bincount(query, minlength=len(keys))
                found.append(self._first_met(table, distance, query, row, queries))
        if not found:
            none = np.empty(0, np.int64)
            return none, none, none, n_met
        query, row, distances = (np.concatenate(column) for column in zip(*found, strict=True))
        return query, row, distances, n_met

    def _first_met(
        self,
        table: int,
        distance: int,
        query: NDArray[np.int64],
        row: NDArray[np.uint32],
        queries: Words,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return query, row and distance of the pairs that no step before (table, distance) met."""
        differ = self._words[row] ^ queries[query]
        new = np.ones(len(row), bool)
        for other, mask in enumerate(self.cut.masks):
            if other != table:
                distances = _count_bits(differ & mask)
                new &= distances > distance if other < table else distances >= distance
        differ = differ[new]
        return query[new], row[new].astype(np.int64), _count_bits(differ).astype(np.int64)


def n_flips(width: int, distance: int) -> int:
    """Return how many values of `width` bits differ from a given one in `distance` bits."""
    return comb(width, distance)


def _slices(ends: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return runs of consecutive buckets with about `_BLOCK_PAIRS` codes each."""
    if not len(ends):
        return []
    if ends[-1] <= _BLOCK_PAIRS:
        return [(0, len(ends))]
    cuts = np.searchsorted(ends, np.arange(_BLOCK_PAIRS, int(ends[-1]), _BLOCK_PAIRS))
    edges = np.unique(np.concatenate([[0], cuts, [len(ends)]])).tolist()
    return list(pairwise(edges))


def _count_bits(words: Words) -> NDArray[Any]:
    counts: NDArray[Any] = np.bitwise_count(words)
    n_words = words.shape[1]
    return counts[:, 0] if n_words == 1 else counts.sum(axis=1, dtype=distance_type(n_words))


@cache
def _flips(width: int, distance: int) -> NDArray[np.uint32]:
    """Return all values of `width` bits with `distance` of them set."""
    if distance == 0:
        return np.zeros(1, np.uint32)
    chosen = np.array(list(combinations(range(width), distance)), np.uint32)
    values: NDArray[np.uint32] = (np.uint32(1) << chosen).sum(axis=1, dtype=np.uint32)
    return values


def _bits(words: Words, places: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return the bits at `places` of each code as one number."""
    order = np.arange(len(places), dtype=np.uint32)
    if len(words) < _FEW_CODES:
        bits = (words[:, places // 64] >> (places % 64)) & np.uint64(1)
        few: NDArray[np.uint32] = (bits.astype(np.uint32) << order).sum(axis=1, dtype=np.uint32)
        return few
    value = np.zeros(len(words), np.uint32)
    for i, place in zip(order, places, strict=True):
        bit = words[:, int(place) // 64] >> (place % np.uint64(64))
        value |= (bit.astype(np.uint32) & np.uint32(1)) << i
    return value
