"""How many items to rerank, so that each true neighbour is found with a stated probability.

This is for collections that rank by the Hamming distance, whatever made their codes: no law says
how far the nearest codes are from the nearest descriptors, so it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from hashing import InvalidInput
from index import Collection, Found, SearchOptions

HELD_OUT = 500
"""Most items that serve as queries of a measurement."""
MAX_DEPTH = 100_000
# A measurement is for at least this k, and until the number of items has changed by this share.
_LEAST_K = 10
_CHANGED = 0.1


@dataclass
class _Measured:
    lock: Lock = field(default_factory=Lock)
    n_items: int = 0
    ranks: NDArray[np.int64] | None = None


class Depths:
    """The depths of reranking in the collections of a service. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        # A collection that is dropped or re-encoded is another object afterwards.
        self._measured: WeakKeyDictionary[Collection, _Measured] = WeakKeyDictionary()

    def reranking(
        self, collection: Collection, options: SearchOptions, checkpoint: Callable[[], None]
    ) -> SearchOptions:
        """Return options that rerank in place of options with a confidence.

        Raise InvalidInput if the collection cannot be measured, or if nobody knows the depth.
        """
        confidence = options.confidence or 0.0
        if options.where is not None or options.radius is not None:
            raise InvalidInput(
                f"collection {collection.name!r} ranks by the Hamming distance: confidence is "
                "measured on all of its items, so it goes without filter and radius"
            )
        k, n = options.page.stop, len(collection)
        ranks = self._ranks(collection, k, checkpoint)[:, :k]
        depth = depth_for(ranks, confidence)
        if depth is None and n <= HELD_OUT:
            depth = n  # So few are all compared.
        if depth is None:
            most = len(ranks) / (len(ranks) + 1)
            raise InvalidInput(
                f"confidence is measured on {len(ranks)} items of collection "
                f"{collection.name!r}, which allow at most {math.floor(1000 * most) / 1000}; got "
                f"{confidence}"
            )
        if depth > MAX_DEPTH:
            raise InvalidInput(
                f"a confidence of {confidence} needs {depth:,} items to be compared, more than "
                f"{MAX_DEPTH:,}: use more bits, or a collection that ranks by estimates"
            )
        return replace(options, confidence=None, rerank=max(depth, k), rerank_by="descriptors")

    def _ranks(
        self, collection: Collection, k: int, checkpoint: Callable[[], None]
    ) -> NDArray[np.int64]:
        with self._lock:
            of = self._measured.setdefault(collection, _Measured())
        with of.lock:
            n, ranks = len(collection), of.ranks
            is_fresh = abs(n - of.n_items) <= _CHANGED * of.n_items
            if ranks is None or not is_fresh or ranks.shape[1] < min(k, n - 1):
                ranks = collection.neighbour_ranks(HELD_OUT, max(k, _LEAST_K), checkpoint)
                of.n_items, of.ranks = n, ranks
            return ranks


def depth_for(ranks: NDArray[np.int64], confidence: float) -> int | None:
    """Return the depth at which a true neighbour of a new query is found with a confidence.

    It is that of split-conformal prediction (Vovk, Gammerman, Shafer 2005) for groups: the new
    query counts as one more, whose neighbours are all missed. None if that is too much.

    Parameters
    ----------
    ranks : (q, k)
        The depths of the true neighbours of q queries from the same source.
    confidence : float
    """
    q, k = ranks.shape
    needed = math.ceil(confidence * (q + 1) * k - 1e-9)
    return int(np.sort(ranks, axis=None)[needed - 1]) if 0 < needed <= ranks.size else None


def certified(found: Found, confidence: float, depth: int, n_items: int) -> Found:
    """Return what was found by reranking to a depth, with a certificate of the confidence."""
    certificate = replace(
        found.certificate,
        exact=depth >= n_items,
        confidence=confidence,
        reranked=min(depth, n_items),
    )
    return replace(found, certificate=certificate)
