"""Scans of a whole database, and how many queries a second one thread answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import faiss
import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes
from index import Scan

Search = Callable[[NDArray[np.float32]], object]
"""Finds the nearest items of a batch of descriptors."""

# Queries per call, and seconds after which no further call is measured.
_BATCH = 100
_SECONDS = 1.0


def queries_per_second(search: Search, queries: NDArray[np.float32]) -> float:
    """Return how many queries a second `search` answers with one thread, in batches of 100."""
    with one_thread():
        search(queries[:_BATCH])
        done, start = 0, time.perf_counter()
        for first in range(0, len(queries), _BATCH):
            batch = queries[first : first + _BATCH]
            search(batch)
            done += len(batch)
            seconds = time.perf_counter() - start
            if seconds > _SECONDS:
                break
    return done / seconds


@contextmanager
def one_thread() -> Iterator[None]:
    """Let Faiss and the matrix products of numpy use one thread."""
    from threadpoolctl import threadpool_limits

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        faiss.omp_set_num_threads(before)


def flat(queries: NDArray[np.float32], database: NDArray[np.float32], k: int) -> object:
    """Find the k nearest descriptors by Euclidean distance."""
    return faiss.knn(queries, database, min(k, len(database)))


def hamming(query_codes: Codes, codes: Codes, k: int) -> object:
    """Find the k nearest codes by Hamming distance."""
    return faiss.knn_hamming(query_codes, codes, min(k, len(codes)), variant="hc")


def by_estimate(rows: Scan, vectors: NDArray[np.float32], k: int) -> None:
    """Find the k nearest rows of each query by estimated distance, as a collection does.

    One query at a time, so that the scan uses one thread.
    """
    for i in range(len(vectors)):
        rows.nearest(vectors[i : i + 1], k, None)
