"""How many items to rerank, so that each true neighbour is found with a stated probability.

This is for collections that rank by the Hamming distance, whatever made their codes: no law says
how far the nearest codes are from the nearest descriptors, so it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from app.service.measured.kept import Kept
from hashing import InvalidInput
from index import Found, SearchOptions
from index.backend import Collection

HELD_OUT = 500
"""Most items that serve as queries of a measurement."""
MAX_DEPTH = 100_000
MAX_REACH = 1000
"""Largest `offset + k`."""
# The work of comparing two items, in multiplications, is their dimension and about this number.
# Large collections have fewer queries, so that a measurement is no more work than this, which
# takes a few seconds.
_PER_PAIR = 128
_MOST_WORK = 1 << 36
# A measurement is for at least this k. A larger one is rounded up to a power of two, so that
# queries with ever larger k repeat the measurement a few times only.
_LEAST_K = 16


class Depths:
    """The depths of reranking in the collections of a service. Thread-safe.

    Parameters
    ----------
    most : int
        Most items that are reranked.
    """

    def __init__(self, most: int = MAX_DEPTH) -> None:
        self._most = most
        self._lock = Lock()
        # A collection that is dropped or re-encoded is another object afterwards.
        self._measured: WeakKeyDictionary[Collection, Kept[NDArray[np.int32]]] = WeakKeyDictionary()

    def reranking(
        self, collection: Collection, options: SearchOptions, checkpoint: Callable[[], None]
    ) -> SearchOptions:
        """Return options that rerank in place of options with a confidence.

        Raise InvalidInput if the collection cannot be measured, or if the depth is not known. What
        the measurement does not hold for is refused before (`check_suits`).
        """
        confidence = options.confidence or 0.0
        k, n = options.page.stop, len(collection)
        if k > MAX_REACH:
            raise InvalidInput(
                f"collection {collection.name!r} ranks by the Hamming distance: with confidence, "
                f"offset + k are at most {MAX_REACH:,}, got {k:,}"
            )
        least = least_queries(confidence)
        if least is None and n > HELD_OUT:
            most = HELD_OUT / (HELD_OUT + 1)
            raise InvalidInput(
                f"confidence is measured on {HELD_OUT} items of collection {collection.name!r}, "
                f"which allow at most {math.floor(1000 * most) / 1000}; got {confidence}"
            )
        depth = n  # Few items are all compared.
        if least is not None and least <= n:
            ranks = self._ranks(collection, k, least, checkpoint)[:, :k]
            measured = depth_for(ranks, confidence)
            depth = n if measured is None else measured
        if depth > self._most:
            raise InvalidInput(
                f"a confidence of {confidence} needs {depth:,} items to be compared, more than "
                f"{self._most:,}: use more bits, or a collection that ranks by estimates"
            )
        return replace(options, confidence=None, rerank=max(depth, k), rerank_by="descriptors")

    def _ranks(
        self, collection: Collection, k: int, least: int, checkpoint: Callable[[], None]
    ) -> NDArray[np.int32]:
        """Return the depths of true neighbours, column by column in ascending order.

        There are at least `least` rows, and k columns if the collection is large enough.
        """
        with self._lock:
            of = self._measured.setdefault(collection, Kept())

        def measure() -> NDArray[np.int32]:
            width = max(_LEAST_K, 1 << (k - 1).bit_length())
            n_queries = max(least, _affordable(len(collection), collection.dimension or 0))
            found = collection.neighbour_ranks(n_queries, width, checkpoint)
            return np.sort(found, axis=0).astype(np.int32)

        def suffices(ranks: NDArray[np.int32]) -> bool:
            n_queries, width = ranks.shape
            return bool(n_queries >= least and width >= min(k, len(collection) - 1))

        return of.get(collection, measure, checkpoint, suffices)


def _affordable(n: int, dimension: int) -> int:
    """Return how many queries a measurement on n items may have."""
    return min(HELD_OUT, _MOST_WORK // max(1, n * (dimension + _PER_PAIR)))


def _place(confidence: float, n_queries: int) -> int:
    """Return which of the ascending depths of queries, from 1 on, has the confidence."""
    return math.ceil(confidence * (n_queries + 1) - 1e-9)


def least_queries(confidence: float) -> int | None:
    """Return how many queries a measurement for a confidence needs; None beyond `HELD_OUT`."""
    about = int(confidence / (1 - confidence))
    some = range(max(1, about - 1), HELD_OUT + 1)
    return next((q for q in some if _place(confidence, q) <= q), None)


def depth_for(ranks: NDArray[np.integer], confidence: float) -> int | None:
    """Return the depth at which each true neighbour of a new query is found with a confidence.

    It is that of split-conformal prediction (Vovk, Gammerman, Shafer 2005), which holds for any
    number of queries. Every column gets its own depth, and the largest is returned: far neighbours
    are found less often than near ones. None if there are too few queries, or no columns.

    Parameters
    ----------
    ranks : (q, k)
        The depths of the true neighbours of q queries from the same source. Columns are for the
        nearest, the second nearest, …, and ascend.
    confidence : float
    """
    q, k = ranks.shape
    place = _place(confidence, q)
    return int(ranks[place - 1].max()) if k and 0 < place <= q else None


def certified(found: Found, confidence: float | None, reranked: int, *, is_all: bool) -> Found:
    """Return what was found by reranking, with a certificate of the confidence."""
    certificate = replace(found.certificate, exact=is_all, confidence=confidence, reranked=reranked)
    return replace(found, certificate=certificate)
