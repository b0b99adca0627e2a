"""What a search will cost, fitted on a collection's codes: whether to use tables, and how many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words, distances_to
from index.memory.multi_index import Cut, n_flips

# Costs in nanoseconds, in proportion to one another, on x86-64 with two threads: to compare a word
# in a scan, to look up a value in a table, to compare a code that a lookup meets, and to make one
# step for all queries.
SCAN = 1.1
PROBE = 10.0
CANDIDATE = 26.0
STEP = 60_000.0
# A scan of fewer codes takes less time than any lookup.
SMALLEST = 1 << 14

_SAMPLED_QUERIES = 32
_NEAR_SAMPLE = 1 << 20
_TABLE_SAMPLE = 1 << 16
_MAX_TABLES = 8
_TYPICAL_K = 10


@dataclass(frozen=True)
class Model:
    """How far the neighbours of a typical query are, and what it costs to cover that distance.

    Attributes
    ----------
    near : (s, n_bits + 1)
        For sampled items, how many other items lie within each distance.
    cost : (n_bits + 1,)
        Nanoseconds per query to cover each distance with the tables.
    flat : float
        Nanoseconds per query of a flat scan.
    cut : Cut, optional
        The cut of the best tables; None where the scan is best.
    """

    near: NDArray[np.float64]
    cost: NDArray[np.float64]
    flat: float
    cut: Cut | None

    def radii(self, k: int) -> NDArray[np.int64]:
        """Return the distance of the k-th neighbour of each sampled item."""
        radii: NDArray[np.int64] = (self.near < k).sum(axis=1)
        farthest = self.near.shape[1] - 1
        radii[radii > farthest] = farthest
        return radii

    def prefers_tables(self, k: float, radius: int, n_queries: int) -> bool:
        """Return whether tables are expected to be cheaper than a flat scan."""
        if self.cut is None or not n_queries:
            return False
        reach = np.minimum(self.radii(max(1, int(np.ceil(k)))), radius)
        spent = self.cost[reach]
        # A query that has cost as much as a flat scan is given up, and then scanned.
        spent = np.where(spent > self.flat, 2 * self.flat, spent)
        return bool(spent.mean() + (reach.mean() + 1) * STEP / n_queries < self.flat)


def fit(words: Words, counts: NDArray[Any], n_bits: int) -> Model:
    """Fit a model on distinct codes, (n, words), each of which `counts` items have."""
    n = len(words)
    flat = SCAN * n * words.shape[1]
    if n < SMALLEST:
        return Model(np.zeros((1, n_bits + 1)), np.zeros(n_bits + 1), flat, None)
    rng = np.random.default_rng(0)
    ends = np.cumsum(counts)
    items = rng.integers(0, ends[-1], _SAMPLED_QUERIES)
    queries = words[np.searchsorted(ends, items, side="right")]
    near = _near(words, counts, queries, n_bits)
    radii = np.minimum((near < _TYPICAL_K).sum(axis=1), n_bits)
    stride = max(1, n // _TABLE_SAMPLE)
    sample, scale = words[::stride], n / len(words[::stride])
    best = Model(near, np.full(n_bits + 1, np.inf), flat, None)
    least = flat
    for n_tables in range(2, min(_MAX_TABLES, n_bits // 8) + 1):
        cut = Cut.of(words, n_bits, n_tables)
        cost = _cost(cut, sample, queries, scale, n_bits)
        expected = float(np.minimum(cost[radii], 2 * flat).mean())
        if expected < least:
            best, least = Model(near, cost, flat, cut), expected
    return best


def _near(words: Words, counts: NDArray[Any], queries: Words, n_bits: int) -> NDArray[np.float64]:
    """Return how many items lie within each distance of each query, as in `Model`."""
    stride = max(1, len(words) // _NEAR_SAMPLE)
    weights = counts[::stride].astype(np.float64) * stride
    near = np.empty((len(queries), n_bits + 1))
    for i, query in enumerate(queries):
        distances = distances_to(query, words[::stride])
        near[i] = np.bincount(distances, weights, minlength=n_bits + 1)[: n_bits + 1]
        # Do not count the item itself: a real query need not have an item at distance 0.
        near[i, 0] = max(near[i, 0] - 1, 0)
    return np.cumsum(near, axis=1)


def _cost(
    cut: Cut, sample: Words, queries: Words, scale: float, n_bits: int
) -> NDArray[np.float64]:
    """Return the cost of covering each distance: every step adds its lookups and what they meet."""
    met = []
    for places, mask in zip(cut.places, cut.masks, strict=True):
        counts = np.zeros(len(places) + 1)
        for query in queries:
            distances = distances_to(query & mask, sample & mask)
            counts += np.bincount(distances, minlength=len(counts))
        met.append(counts * scale / len(queries))
    cost, total = np.full(n_bits + 1, np.inf), 0.0
    m = len(cut.places)
    for reach in range(n_bits + 1):
        distance, table = divmod(reach, m)
        width = len(cut.places[table])
        if distance <= width:
            total += PROBE * n_flips(width, distance) + CANDIDATE * met[table][distance]
        cost[reach] = total
    return cost
