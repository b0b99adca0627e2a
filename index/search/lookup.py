"""Look queries up in the multi-index tables of a segment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words
from index.callbacks import Checkpoint
from index.memory import cost_model
from index.memory.multi_index import Tables
from index.memory.view import Mask
from index.search.flat_scan import Hits

# Largest number of values to look up for one query in one step; a scan is cheaper than more.
_MAX_PROBES = 1 << 17


class Lookup:
    """Looks queries up in the tables until each has its k nearest or has cost as much as a scan.

    Attributes
    ----------
    hits : Hits
        Codes that may be among the k nearest of the queries that were not given up.
    given_up : (r,)
        Queries that have to be scanned.
    covered : (q,)
        Every code within this distance of the query was compared.
    n_compared : (q,)
        Number of codes that were compared.
    """

    def __init__(
        self,
        model: cost_model.Model,
        tables: Tables,
        counts: NDArray[Any] | None,
        queries: Words,
        k: int,
        radius: int,
        checkpoint: Checkpoint,
    ) -> None:
        nq, self._width = len(queries), model.near.shape[1]
        self._checkpoint = checkpoint
        self._model, self._tables, self._counts = model, tables, counts
        self._queries, self._keys = queries, tables.keys(queries)
        self.covered = np.full(nq, -1)
        self.n_compared = np.zeros(nq, np.int64)
        # Codes found, by query and distance.
        self._histogram = np.zeros((nq, self._width), np.int64)
        # No code farther than this can be among the k nearest.
        self._bound = np.full(nq, radius)
        self._spent = np.zeros(nq)
        self._parts: list[Hits] = []
        is_given_up = np.zeros(nq, bool)
        active = np.arange(nq)
        for step in range(self._width):
            distance, table = divmod(step, len(tables))
            n_probes = tables.n_probes(table, distance)
            too_much = self._spent[active] + cost_model.PROBE * n_probes > model.flat
            if n_probes > _MAX_PROBES:
                too_much[:] = True
            is_given_up[active[too_much]] = True
            active = active[~too_much]
            if not len(active):
                break
            if n_probes:
                self._look_up(table, distance, active, n_probes)
            self.covered[active] = step
            within = np.cumsum(self._histogram[active], axis=1)
            self._bound[active] = np.minimum(radius, (within < k).sum(axis=1))
            active = active[self._bound[active] > step]
        self.given_up = np.flatnonzero(is_given_up)
        found = Hits.join(self._parts)
        keep = (found.distance <= self._bound[found.query]) & ~is_given_up[found.query]
        self.hits = select(found, keep)

    def _look_up(self, table: int, distance: int, active: NDArray[np.int64], n_probes: int) -> None:
        """Take one step for the active queries."""
        query, row, distances, n_met = self._tables.look_up(
            table,
            distance,
            self._keys[table][active],
            self._queries[active],
            self._checkpoint,
        )
        self.n_compared[active] += n_met
        self._spent[active] += cost_model.PROBE * n_probes + cost_model.CANDIDATE * n_met
        query = active[query]
        good = distances <= self._bound[query]
        if self._counts is not None:
            good &= self._counts[row] > 0
        hits = Hits(query[good], distances[good], row[good])
        self._parts.append(hits)
        weights = None if self._counts is None else self._counts[hits.row]
        nq, width = self._histogram.shape
        new = np.bincount(hits.query * width + hits.distance, weights, nq * width)
        self._histogram += new.astype(np.int64).reshape(nq, width)


def select(hits: Hits, which: Mask | NDArray[np.int64]) -> Hits:
    """Return some of the hits."""
    return Hits(hits.query[which], hits.distance[which], hits.row[which])
