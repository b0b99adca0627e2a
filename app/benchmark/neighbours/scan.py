"""Scans of a whole database by Faiss, and how many queries a second one thread answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes

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


def estimate_index(codes: Codes, factors: NDArray[np.float32], n_bits: int) -> Any:
    """Return Faiss's index of the same codes, which ranks by the same estimate.

    It is searched with the vectors of `hashing.parts.estimate.QueryTerms`. An estimate is the
    constant of the query less what this index returns.

    Parameters
    ----------
    codes : (n, size) uint8
    factors : (n, 3) float32
        Scale, offset and error of each item.
    n_bits : int
    """
    # Not the Euclidean distance, below which Faiss replaces negative estimates by zero.
    index: Any = faiss.IndexRaBitQ(n_bits, faiss.METRIC_INNER_PRODUCT)
    index.qb = 8
    index.is_trained = True
    # Behind the bits, of which the lowest of a byte is the first, Faiss keeps two numbers. It
    # returns the second times ⟨b, u⟩ / √m, less half the first.
    own = np.stack([-2 * factors[:, 1], factors[:, 0] * np.sqrt(n_bits)], axis=1)
    bits = np.packbits(np.unpackbits(codes, axis=1), axis=1, bitorder="little")
    rows = np.concatenate([bits, own.astype("<f4").view(np.uint8)], axis=1)
    index.add_sa_codes(np.ascontiguousarray(rows))
    return index
