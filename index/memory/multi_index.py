"""Multi-index hashing: exact Hamming search that looks at few codes.

Norouzi, Punjani, Fleet, "Fast Exact Search in Hamming Space with Multi-Index Hashing", PAMI 2014.
A code is cut into m substrings, each with a table from its value to the codes that have it. Codes
within distance m s + a of a query have a substring within s of the query's in one of the first
a + 1 tables, or within s - 1 in one of the others (their section 3.2); so looking up the
substrings at distance s, table after table, covers one more bit of distance with each table.

Deviations. A table is indexed by the `width` most balanced bits of its substring and not by all
of them: what is then looked at still holds all that the proof needs, and the table stays small
for long codes. A code met in several tables is counted at its first step, which its substrings
tell, in place of a list of those seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words, bit_places

MAX_WIDTH = 24
_PAIRS = 1 << 20
# Codes whose bits are taken at once, with a matrix of them in memory.
_FEW = 1024


@dataclass(frozen=True)
class Cut:
    """Which bits index each table: `places` in the words, and the same as `masks`, (m, words)."""

    places: tuple[NDArray[np.uint64], ...]
    masks: Words

    @classmethod
    def of(cls, words: Words, n_bits: int, n_tables: int) -> Cut:
        """Substrings of equal length of codes like `words`, their most balanced bits for tables."""
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
    """The tables of one array of codes, each as offsets into a list of rows."""

    def __init__(
        self, words: Words, cut: Cut, checkpoint: Callable[[], None] = lambda: None
    ) -> None:
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
        """Memory of the tables."""
        return sum(array.nbytes for array in (*self._offsets, *self._rows))

    def keys(self, queries: Words) -> list[NDArray[np.uint32]]:
        """The substring of each query for each table."""
        return [_bits(queries, places) for places in self.cut.places]

    def probes(self, table: int, distance: int) -> int:
        """How many values lie at that distance of a substring."""
        return n_flips(len(self.cut.places[table]), distance)

    def look(
        self, table: int, distance: int, keys: NDArray[np.uint32], queries: Words
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """All codes that a step meets first: step (table, distance) after all that come before.

        `keys` and `queries` are those of the queries asked for. Returns query, row and distance
        of each code met, and how many codes were looked at for each query.
        """
        flips = _flips(len(self.cut.places[table]), distance)
        found: list[tuple[NDArray[np.int64], ...]] = []
        looked = np.zeros(len(keys), np.int64)
        at_once = max(1, _PAIRS // len(flips))
        for first in range(0, len(keys), at_once):
            part = slice(first, first + at_once)
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
                looked += np.bincount(query, minlength=len(keys))
                found.append(self._first_met(table, distance, query, row, queries))
        if not found:
            none = np.empty(0, np.int64)
            return none, none, none, looked
        query, row, apart = (np.concatenate(column) for column in zip(*found, strict=True))
        return query, row, apart, looked

    def _first_met(
        self,
        table: int,
        distance: int,
        query: NDArray[np.int64],
        row: NDArray[np.uint32],
        queries: Words,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        differ = self._words[row] ^ queries[query]
        new = np.ones(len(row), bool)
        for other, mask in enumerate(self.cut.masks):
            if other != table:
                apart = _count(differ & mask)
                new &= apart > distance if other < table else apart >= distance
        differ = differ[new]
        return query[new], row[new].astype(np.int64), _count(differ).astype(np.int64)


def n_flips(width: int, distance: int) -> int:
    """How many values of `width` bits differ from one in `distance` bits."""
    return comb(width, distance)


def _slices(ends: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Consecutive runs of buckets with some `_PAIRS` codes in each."""
    if not len(ends):
        return []
    if ends[-1] <= _PAIRS:
        return [(0, len(ends))]
    cuts = np.searchsorted(ends, np.arange(_PAIRS, int(ends[-1]), _PAIRS))
    edges = np.unique(np.concatenate([[0], cuts, [len(ends)]])).tolist()
    return list(pairwise(edges))


def _count(words: Words) -> NDArray[Any]:
    counts: NDArray[Any] = np.bitwise_count(words)
    return counts[:, 0] if words.shape[1] == 1 else counts.sum(axis=1, dtype=np.uint16)


@cache
def _flips(width: int, distance: int) -> NDArray[np.uint32]:
    """All values of `width` bits with `distance` of them set."""
    if distance == 0:
        return np.zeros(1, np.uint32)
    chosen = np.array(list(combinations(range(width), distance)), np.uint32)
    values: NDArray[np.uint32] = (np.uint32(1) << chosen).sum(axis=1, dtype=np.uint32)
    return values


def _bits(words: Words, places: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The bits at `places` of each code, as one number."""
    order = np.arange(len(places), dtype=np.uint32)
    if len(words) < _FEW:
        bits = (words[:, places // 64] >> (places % 64)) & np.uint64(1)
        few: NDArray[np.uint32] = (bits.astype(np.uint32) << order).sum(axis=1, dtype=np.uint32)
        return few
    value = np.zeros(len(words), np.uint32)
    for i, place in zip(order, places, strict=True):
        bit = words[:, int(place) // 64] >> (place % np.uint64(64))
        value |= (bit.astype(np.uint32) & np.uint32(1)) << i
    return value
