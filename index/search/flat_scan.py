"""The flat scan: compare every code. It is fast for searches that tables do not help."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from bitcodes import Words, distances_to
from index.callbacks import Checkpoint

THREADS = max(1, min(cpu_count() or 1, faiss.omp_get_max_threads()))
POOL = ThreadPoolExecutor(THREADS, "scan")
# For fewer queries than this, a scan with numpy is faster than Faiss with its threads.
_FEW_QUERIES = 4
# If at most this many times k codes lie within the radius, they need no closer bound.
_CLOSE_ENOUGH = 8
# With more neighbours, the heaps that Faiss keeps become slow.
_MAX_HEAP = 512
# With fewer codes, threads do not help.
_FEW_CODES = 1 << 12


class Hits(NamedTuple):
    """Pairs of a query and a code that is near it, in no order: their places and distances."""

    query: NDArray[np.int64]
    distance: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def join(cls, parts: list[Hits]) -> Hits:
        """Return the pairs of all parts."""
        if not parts:
            return cls(*(np.empty(0, np.int64) for _ in range(3)))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def scan(
    words: Words,
    queries: Words,
    k: int,
    radius: int | NDArray[np.int64],
    checkpoint: Checkpoint,
) -> Hits:
    """Return for each query all codes within `radius` that are no farther than the k-th nearest.

    Ties at the k-th place are all returned. `radius` is one for all queries or one per query, (q,).
    `checkpoint` is called before each scan of all codes, in any thread, and may raise to give up.
    """
    n = len(words)
    if n == 0 or len(queries) == 0 or k < 1:
        return Hits.join([])
    radius = np.broadcast_to(radius, len(queries))
    wanted = min(n, 2 * k + 32)
    if len(queries) < _FEW_QUERIES or wanted > _MAX_HEAP:
        return _scan_each(words, queries, np.arange(len(queries)), k, radius, checkpoint)
    checkpoint()
    faiss.omp_set_num_threads(THREADS)
    distances, rows = faiss.knn_hamming(_as_bytes(queries), _as_bytes(words), wanted, variant="hc")
    kth = np.full(len(queries), distances[:, -1]) if k > wanted else distances[:, min(k, n) - 1]
    # Whether Faiss returned all ties at the k-th place.
    is_complete = (distances[:, -1] > np.minimum(kth, radius)) | (wanted == n)
    is_near = (distances <= np.minimum(kth, radius)[:, None]) & is_complete[:, None]
    query, place = np.nonzero(is_near)
    hits = Hits(
        query.astype(np.int64),
        distances[query, place].astype(np.int64),
        rows[query, place].astype(np.int64),
    )
    rest = np.flatnonzero(~is_complete)
    return Hits.join([hits, _scan_each(words, queries, rest, k, radius, checkpoint)])


def _scan_each(
    words: Words,
    queries: Words,
    places: NDArray[np.int64],
    k: int,
    radius: NDArray[np.int64],
    checkpoint: Checkpoint,
) -> Hits:
    """Scan for the queries at some places, one by one."""

    def scan_one(query: int) -> Hits:
        checkpoint()
        distances = distances_to(queries[query], words)
        within = distances <= radius[query]
        if np.count_nonzero(within) > _CLOSE_ENOUGH * k:
            within = distances <= min(_kth_bound(distances, k), radius[query])
        rows = np.flatnonzero(within)
        near = distances[rows]
        counts = np.bincount(near) if len(near) else np.zeros(1, np.int64)
        kth = int(np.searchsorted(np.cumsum(counts), k))
        rows = rows[near <= kth]
        return Hits(np.full(len(rows), query), distances[rows].astype(np.int64), rows)

    if len(places) < 2 or len(words) < _FEW_CODES:
        return Hits.join([scan_one(query) for query in places.tolist()])
    return Hits.join(list(POOL.map(scan_one, places.tolist())))


def count(
    words: Words, query: Words, radius: int, weights: NDArray[np.integer] | None = None
) -> int:
    """Return how many codes are within `radius` of a query; each counts `weights`, by default 1."""
    if not len(words):
        return 0
    within = distances_to(query, words) <= radius
    return int(np.count_nonzero(within) if weights is None else weights[within].sum())


def _kth_bound(distances: NDArray[np.unsignedinteger], k: int) -> int:
    """Return a distance within which at least k codes lie, or all; not much more than needed."""
    n = len(distances)
    if k >= n:
        return int(distances.max())
    step = n >> 15
    if step > 1:
        counts = np.cumsum(np.bincount(distances[::step])) * step
        bound = int(np.searchsorted(counts, 2 * k + 8 * step))
        if bound < len(counts) and np.count_nonzero(distances <= bound) >= k:
            return bound
    return int(np.searchsorted(np.cumsum(np.bincount(distances)), k))


def _as_bytes(words: Words) -> NDArray[np.uint8]:
    return np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
