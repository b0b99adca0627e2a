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
from index import Collection, Found, SearchOptions, holding

HELD_OUT = 500
"""Most items that serve as queries of a measurement."""
MAX_DEPTH = 100_000
# A measurement is for at least this k, and until the number of items has changed by this share.
_LEAST_K = 10
_CHANGED = 0.1


@dataclass
class _Measured:
    lock: Lock = field(default_factory=Lock)
    # With the number of items at the time.
    measured: tuple[int, NDArray[np.int64]] | None = None

    def fresh(self, n_items: int, k: int) -> NDArray[np.int64] | None:
        """Return the ranks of k neighbours, or more; None if they have to be measured."""
        if self.measured is None:
            return None
        n, ranks = self.measured
        is_fresh = abs(n_items - n) <= _CHANGED * n and ranks.shape[1] >= min(k, n_items - 1)
        return ranks if is_fresh else None


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

        Raise InvalidInput if the collection cannot be measured, or if nobody knows the depth. What
        the measurement does not hold for is refused before (`check_suits`).
        """
        confidence = options.confidence or 0.0
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
        if (ranks := of.fresh(len(collection), k)) is not None:
            return ranks
        with holding(of.lock, checkpoint):
            n = len(collection)
            if (ranks := of.fresh(n, k)) is None:
                ranks = collection.neighbour_ranks(HELD_OUT, max(k, _LEAST_K), checkpoint)
                of.measured = n, ranks
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
