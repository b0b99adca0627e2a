"""The flat scan: every code is looked at. Fast for what no table helps with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from bitcodes import Words, distances_to

THREADS = max(1, min(cpu_count() or 1, faiss.omp_get_max_threads()))
POOL = ThreadPoolExecutor(THREADS, "scan")
# Below this many queries numpy's scan is faster than Faiss's with its threads.
_FEW = 4
# A radius that leaves no more than so many times k is near enough to go without a bound.
_NEAR = 8
# Faiss's heap of the nearest grows slow beyond.
_MOST_HEAP = 512


class Hits(NamedTuple):
    """Pairs of a query and a code that is near it, in no order."""

    query: NDArray[np.int64]
    distance: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def join(cls, parts: list[Hits]) -> Hits:
        """All pairs of several."""
        if not parts:
            return cls(*(np.empty(0, np.int64) for _ in range(3)))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def scan(words: Words, queries: Words, k: int, radius: int | NDArray[np.int64]) -> Hits:
    """For each query all codes within `radius` that are no farther than the k-th nearest.

    Ties at the k-th place are returned in full. `radius` is one for all or one a query, (q,).
    """
    n = len(words)
    if n == 0 or len(queries) == 0 or k < 1:
        return Hits.join([])
    radius = np.broadcast_to(radius, len(queries))
    few = len(queries) < _FEW
    wanted = min(n, 2 * k + 32)
    if few or wanted > _MOST_HEAP:
        return _each(words, queries, np.arange(len(queries)), k, radius)
    faiss.omp_set_num_threads(THREADS)
    apart, rows = faiss.knn_hamming(_bytes(queries), _bytes(words), wanted, variant="hc")
    kth = np.full(len(queries), apart[:, -1]) if k > wanted else apart[:, min(k, n) - 1]
    whole = (apart[:, -1] > np.minimum(kth, radius)) | (wanted == n)
    near = (apart <= np.minimum(kth, radius)[:, None]) & whole[:, None]
    query, place = np.nonzero(near)
    found = Hits(
        query.astype(np.int64),
        apart[query, place].astype(np.int64),
        rows[query, place].astype(np.int64),
    )
    rest = np.flatnonzero(~whole)
    return Hits.join([found, _each(words, queries, rest, k, radius)])


def _each(
    words: Words, queries: Words, which: NDArray[np.int64], k: int, radius: NDArray[np.int64]
) -> Hits:
    def one(query: int) -> Hits:
        apart = distances_to(queries[query], words)
        within = apart <= radius[query]
        if np.count_nonzero(within) > _NEAR * k:
            within = apart <= min(_kth_bound(apart, k), radius[query])
        rows = np.flatnonzero(within)
        near = apart[rows]
        counts = np.bincount(near) if len(near) else np.zeros(1, np.int64)
        kth = int(np.searchsorted(np.cumsum(counts), k))
        rows = rows[near <= kth]
        return Hits(np.full(len(rows), query), apart[rows].astype(np.int64), rows)

    if len(which) < 2 or len(words) < 1 << 12:
        return Hits.join([one(query) for query in which.tolist()])
    return Hits.join(list(POOL.map(one, which.tolist())))


def _kth_bound(apart: NDArray[np.unsignedinteger], k: int) -> int:
    """A distance within which there are at least k codes, or all: not much more than needed."""
    n = len(apart)
    if k >= n:
        return int(apart.max())
    step = n >> 15
    if step > 1:
        counts = np.cumsum(np.bincount(apart[::step])) * step
        bound = int(np.searchsorted(counts, 2 * k + 8 * step))
        if bound < len(counts) and np.count_nonzero(apart <= bound) >= k:
            return bound
    return int(np.searchsorted(np.cumsum(np.bincount(apart)), k))


def _bytes(words: Words) -> NDArray[np.uint8]:
    return np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
