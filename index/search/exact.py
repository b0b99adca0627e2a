"""Exact search over a view, with what proves it: the radius covered, the codes looked at."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words
from index.memory import cost_model
from index.memory.multi_index import Tables
from index.memory.segment import Segment
from index.memory.view import View
from index.search import flat_scan
from index.search.flat_scan import Hits
from index.types import Answer, Certificate

# Not the pool of scans, which these wait for.
_POOL = ThreadPoolExecutor(flat_scan.THREADS, "search")
_MANY = 32
# With a smaller share of the items allowed, those few are scanned.
_LEAST_SHARE = 0.02
# Values at one distance of a substring: beyond, a scan is cheaper in any collection.
_MOST_FLIPS = 1 << 17
_AT_ONCE = 512
_AT_ONCE_SCANNED = 64


def search(
    view: View, queries: Words, k: int, radius: int | None, mask: NDArray[np.bool_] | None = None
) -> list[Answer]:
    """The k nearest of each query, within `radius` if given, among the rows that `mask` allows."""
    n_bits = view.segment.n_bits
    reach = n_bits if radius is None else min(radius, n_bits)
    asked = _Asked(view, k, reach, mask)
    prepared = asked.tables(len(queries))
    if prepared is None:
        return asked.by_scan(queries)
    by_tables = partial(asked.by_tables, *prepared)
    if len(queries) < 2 * _MANY:
        return by_tables(queries)
    n_parts = flat_scan.THREADS * -(-len(queries) // (flat_scan.THREADS * _AT_ONCE))
    parts = np.array_split(queries, n_parts)
    return [one for part in _POOL.map(by_tables, parts) for one in part]


class _Asked:
    """One search: what all its queries have in common."""

    def __init__(self, view: View, k: int, reach: int, mask: NDArray[np.bool_] | None) -> None:
        self.view, self.k, self.reach = view, k, reach
        self.segment: Segment = view.segment
        self.n_bits = view.segment.n_bits
        n = len(view.segment)
        # Rows of the segment that may be found, None for all; and those of the tail, with codes.
        self.early: NDArray[np.bool_] | None
        self._counts: NDArray[Any] | None
        if mask is None:
            self.early, n_allowed = view.early
            self.late, self.tail = view.late, view.late_words
            self._counts = view.counts
        else:
            allowed = mask if view.alive is None else mask & view.alive
            self.early, self.late = allowed[:n], np.flatnonzero(allowed[n:])
            self.tail = view.tail[self.late]
            n_allowed = int(np.count_nonzero(self.early))
            self._counts = self.segment.counts(self.early)
        self.masked = mask is not None
        self.share = n_allowed / n if n else 0.0

    def tables(self, n_queries: int) -> tuple[cost_model.Model, Tables] | None:
        """Cost model and tables, where they are expected to be cheaper than a scan."""
        prepared = self.segment.prepared
        if prepared is None or self.share <= _LEAST_SHARE:
            return None
        # Of codes that are not allowed as many again must be met; scanning leaves them out.
        cheaper = prepared[0].prefers_tables(self.k / self.share, self.reach, n_queries)
        return prepared if cheaper else None

    def by_scan(self, queries: Words) -> list[Answer]:
        """Answers by a flat scan."""
        words, which = self._scanned()
        answers = []
        for first in range(0, len(queries), _AT_ONCE_SCANNED):
            part = queries[first : first + _AT_ONCE_SCANNED]
            hits = flat_scan.scan(words, part, self.k, self.reach)
            base = hits if which is None else hits._replace(row=which[hits.row])
            radius = np.full(len(part), self.n_bits)
            answers += self._answers(part, base, radius, np.full(len(part), len(words)))
        return answers

    def by_tables(self, model: cost_model.Model, tables: Tables, queries: Words) -> list[Answer]:
        """Answers by tables, and by a scan for those queries that cost too much."""
        probe = _Probe(model, tables, self._counts, queries, self.k, self.reach)
        hits, rest = probe.hits, probe.rest
        if len(rest):
            words, which = self._scanned()
            more = flat_scan.scan(words, queries[rest], self.k, self.reach)
            code = more.row if which is None else which[more.row]
            hits = Hits.join([hits, Hits(rest[more.query], more.distance, code)])
            probe.looked[rest] += len(words)
            probe.radius[rest] = self.n_bits
        return self._answers(queries, hits, probe.radius, probe.looked)

    def _scanned(self) -> tuple[Words, NDArray[np.int64] | None]:
        """The codes that a scan looks at, and which of all they are; None for all."""
        return self.segment.having(self._counts) if self.masked else self.view.left

    def _answers(
        self, queries: Words, base: Hits, radius: NDArray[np.int64], looked: NDArray[np.int64]
    ) -> list[Answer]:
        """Answers from codes of the segment, with those of the tail, which is always scanned."""
        nq, width = len(queries), self.n_bits + 1
        weights = None if self._counts is None else self._counts[base.row]
        near = np.bincount(base.query * width + base.distance, weights, nq * width)
        near = near.astype(np.int64).reshape(nq, width)
        # What the tail has beyond the k-th of the segment is not among the k nearest.
        reach = np.minimum(self.reach, (np.cumsum(near, axis=1) < self.k).sum(axis=1))
        new = flat_scan.scan(self.tail, queries, self.k, reach)
        near += np.bincount(new.query * width + new.distance, minlength=nq * width).reshape(
            nq, width
        )
        return self._cut(near, base, new, radius, looked + len(self.tail))

    def _cut(
        self,
        near: NDArray[np.int64],
        base: Hits,
        new: Hits,
        radius: NDArray[np.int64],
        looked: NDArray[np.int64],
    ) -> list[Answer]:
        """The k nearest of the codes found, as rows; `near` counts them, by query and distance."""
        nq, width = near.shape
        within = np.cumsum(near, axis=1)
        # The distance of the last neighbour: of the k-th, or of the farthest where there are fewer.
        last = (within < np.minimum(self.k, within[:, -1])[:, None]).sum(axis=1)
        tie = near[np.arange(nq), np.minimum(last, width - 1)]
        base = _keep(base, base.distance <= last[base.query])
        new = _keep(new, new.distance <= last[new.query])
        hits = self._expand(base)
        order = np.lexsort((hits.row, hits.distance, hits.query))
        hits = _keep(hits, order)
        firsts = np.searchsorted(hits.query, np.arange(nq + 1))
        place = np.arange(len(hits.query)) - firsts[hits.query]
        hits = _keep(hits, place < self.k)
        edges = np.searchsorted(hits.query, np.arange(nq + 1)).tolist()
        rows, apart = hits.row, hits.distance
        late = self._late(new)
        answers = []
        for query, (t, r, n) in enumerate(
            zip(tie.tolist(), radius.tolist(), looked.tolist(), strict=True)
        ):
            here = slice(edges[query], edges[query + 1])
            found, at = rows[here], apart[here]
            if query in late:
                found, at = self._merge(found, at, *late[query])
            answers.append(Answer(found, at, Certificate(True, r, n, t)))
        return answers

    def _expand(self, base: Hits) -> Hits:
        """From codes to the rows that have them."""
        place, row = self.segment.members(base.row, None if self.early is not None else self.k)
        hits = Hits(base.query[place], base.distance[place], row)
        return hits if self.early is None else _keep(hits, self.early[row])

    def _late(self, new: Hits) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows and distances in the tail, by query."""
        if not len(new.query):
            return {}
        row = new.row if self.late is None else self.late[new.row]
        row = row + len(self.segment)
        order = np.argsort(new.query, kind="stable")
        queries, starts = np.unique(new.query[order], return_index=True)
        rows, apart = np.split(row[order], starts[1:]), np.split(new.distance[order], starts[1:])
        return dict(zip(queries.tolist(), zip(rows, apart, strict=True), strict=True))

    def _merge(
        self,
        rows: NDArray[np.int64],
        apart: NDArray[np.int64],
        late_rows: NDArray[np.int64],
        late_apart: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows, apart = np.concatenate([rows, late_rows]), np.concatenate([apart, late_apart])
        names = self.view.names(rows)
        keys = sorted(zip(apart.tolist(), names, range(len(rows)), strict=True))[: self.k]
        order = np.array([place for _, _, place in keys], np.int64)
        return rows[order], apart[order]


class _Probe:
    """Queries put to the tables, until each has its k nearest or has cost a scan."""

    def __init__(
        self,
        model: cost_model.Model,
        tables: Tables,
        counts: NDArray[Any] | None,
        queries: Words,
        k: int,
        reach: int,
    ) -> None:
        nq, n_bits = len(queries), model.near.shape[1] - 1
        width, m = n_bits + 1, len(tables)
        self.radius = np.full(nq, -1)
        self.looked = np.zeros(nq, np.int64)
        near = np.zeros((nq, width), np.int64)
        # No code farther than this can be among the k nearest.
        bound = np.full(nq, reach)
        spent = np.zeros(nq)
        parts: list[Hits] = []
        active = np.arange(nq)
        given_up = np.zeros(nq, bool)
        keys = tables.keys(queries)
        for step in range(n_bits + 1):
            distance, table = divmod(step, m)
            n_probes = tables.probes(table, distance)
            over = spent[active] + cost_model.PROBE * n_probes > model.flat
            if n_probes > _MOST_FLIPS:
                over[:] = True
            given_up[active[over]] = True
            active = active[~over]
            if not len(active):
                break
            if n_probes:
                query, row, apart, looked = tables.look(
                    table, distance, keys[table][active], queries[active]
                )
                self.looked[active] += looked
                spent[active] += cost_model.PROBE * n_probes + cost_model.CANDIDATE * looked
                query = active[query]
                good = apart <= bound[query]
                if counts is not None:
                    good &= counts[row] > 0
                hits = Hits(query[good], apart[good], row[good])
                parts.append(hits)
                weights = None if counts is None else counts[hits.row]
                new = np.bincount(hits.query * width + hits.distance, weights, nq * width)
                near += new.astype(np.int64).reshape(nq, width)
            self.radius[active] = step
            within = np.cumsum(near[active], axis=1)
            bound[active] = np.minimum(reach, (within < k).sum(axis=1))
            active = active[bound[active] > step]
        self.rest = np.flatnonzero(given_up)
        found = Hits.join(parts)
        keep = (found.distance <= bound[found.query]) & ~given_up[found.query]
        self.hits = _keep(found, keep)


def _keep(hits: Hits, which: NDArray[np.bool_] | NDArray[np.int64]) -> Hits:
    return Hits(hits.query[which], hits.distance[which], hits.row[which])
