"""What a search will cost, fitted on a collection's own codes: tables, how many, or a flat scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words, distances_to
from index.memory.multi_index import Cut, n_flips

# Nanoseconds, in proportion to one another on x86-64 with two threads.
SCAN = 1.1
PROBE = 10.0
CANDIDATE = 26.0
STEP = 60_000.0
# Fewer codes than this are scanned in less time than tables take to look up.
SMALLEST = 1 << 14

_QUERIES = 32
_NEAR_SAMPLE = 1 << 20
_TABLE_SAMPLE = 1 << 16
_MOST_TABLES = 8
_TYPICAL_K = 10


@dataclass(frozen=True)
class Model:
    """How far the neighbours of a typical query are, and what it costs to cover that distance.

    Attributes
    ----------
    near : (s, n_bits + 1)
        For sampled items, how many others lie within each distance.
    cost : (n_bits + 1,)
        Nanoseconds a query to cover each distance with the tables.
    flat : float
        Nanoseconds a query of a flat scan.
    cut : Cut, optional
        Of the best tables; None where the scan is best.
    """

    near: NDArray[np.float64]
    cost: NDArray[np.float64]
    flat: float
    cut: Cut | None

    def radii(self, k: int) -> NDArray[np.int64]:
        """The distance of the k-th neighbour of each sampled item."""
        radii: NDArray[np.int64] = (self.near < k).sum(axis=1)
        farthest = self.near.shape[1] - 1
        radii[radii > farthest] = farthest
        return radii

    def prefers_tables(self, k: float, radius: int, n_queries: int) -> bool:
        """Whether tables are expected to be cheaper than a flat scan."""
        if self.cut is None or not n_queries:
            return False
        reach = np.minimum(self.radii(max(1, int(np.ceil(k)))), radius)
        spent = self.cost[reach]
        # A query that has cost as much as a flat scan is given up, and scanned.
        spent = np.where(spent > self.flat, 2 * self.flat, spent)
        return bool(spent.mean() + (reach.mean() + 1) * STEP / n_queries < self.flat)


def fit(words: Words, counts: NDArray[Any], n_bits: int) -> Model:
    """The model of distinct codes, (n, words), that `counts` items have."""
    n = len(words)
    flat = SCAN * n * words.shape[1]
    if n < SMALLEST:
        return Model(np.zeros((1, n_bits + 1)), np.zeros(n_bits + 1), flat, None)
    rng = np.random.default_rng(0)
    ends = np.cumsum(counts)
    asked = words[np.searchsorted(ends, rng.integers(0, ends[-1], _QUERIES), side="right")]
    near = _near(words, counts, asked, n_bits)
    radii = np.minimum((near < _TYPICAL_K).sum(axis=1), n_bits)
    stride = max(1, n // _TABLE_SAMPLE)
    sample, scale = words[::stride], n / len(words[::stride])
    best = Model(near, np.full(n_bits + 1, np.inf), flat, None)
    least = flat
    for n_tables in range(2, min(_MOST_TABLES, n_bits // 8) + 1):
        cut = Cut.of(words, n_bits, n_tables)
        cost = _cost(cut, sample, asked, scale, n_bits)
        expected = float(np.minimum(cost[radii], 2 * flat).mean())
        if expected < least:
            best, least = Model(near, cost, flat, cut), expected
    return best


def _near(words: Words, counts: NDArray[Any], asked: Words, n_bits: int) -> NDArray[np.float64]:
    stride = max(1, len(words) // _NEAR_SAMPLE)
    weights = counts[::stride].astype(np.float64) * stride
    near = np.empty((len(asked), n_bits + 1))
    for i, query in enumerate(asked):
        apart = distances_to(query, words[::stride])
        near[i] = np.bincount(apart, weights, minlength=n_bits + 1)[: n_bits + 1]
        # The item itself is no neighbour that a query would find for sure.
        near[i, 0] = max(near[i, 0] - 1, 0)
    return np.cumsum(near, axis=1)


def _cost(cut: Cut, sample: Words, asked: Words, scale: float, n_bits: int) -> NDArray[np.float64]:
    """Nanoseconds to cover each distance: every step adds its look-ups and the codes they meet."""
    met = []
    for places, mask in zip(cut.places, cut.masks, strict=True):
        part = np.zeros(len(places) + 1)
        for query in asked:
            part += np.bincount(distances_to(query & mask, sample & mask), minlength=len(part))
        met.append(part * scale / len(asked))
    cost, total = np.full(n_bits + 1, np.inf), 0.0
    m = len(cut.places)
    for reach in range(n_bits + 1):
        distance, table = divmod(reach, m)
        width = len(cut.places[table])
        if distance <= width:
            total += PROBE * n_flips(width, distance) + CANDIDATE * met[table][distance]
        cost[reach] = total
    return cost
