"""Exact search in a view, with a certificate of what was compared."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words
from index.callbacks import Checkpoint
from index.memory import cost_model
from index.memory.multi_index import Tables
from index.memory.view import Mask, View
from index.search import flat_scan, paths
from index.search.flat_scan import Hits
from index.search.lookup import Lookup, select
from index.search.order import by_value_and_id
from index.types import Answer, Certificate

# Not the pool of the scans: tasks of this pool wait for those.
_POOL = ThreadPoolExecutor(flat_scan.THREADS, "search")
# Fewer queries than twice this are not divided among threads.
_QUERIES_PER_THREAD = 32
# If a filter allows at most this share of the items, they are scanned.
_LEAST_SHARE = 0.02
# Queries per block, which bounds the memory.
_BLOCK = 512
_SCAN_BLOCK = 64
_BLOCKS_AT_ONCE = 2 * flat_scan.THREADS


def search(
    view: View,
    queries: Words,
    k: int,
    radius: int | None,
    mask: Mask | None = None,
    checkpoint: Checkpoint = lambda: None,
    *,
    count_within: bool = False,
) -> list[Answer]:
    """Return the k nearest rows of each query.

    Parameters
    ----------
    view : View
    queries : (q, words) uint64
    k : int
    radius : int, optional
        Largest distance.
    mask : (rows,) bool, optional
        Rows of the view that may be found. It may allow dead rows, which are never found.
    checkpoint : callable
        Called between the steps of a search, in any thread. It may raise to give up.
    count_within : bool
        Whether to count the rows within the radius where there are more than k.

    Equal queries are searched once.
    """
    if len(queries) > 1:
        distinct, place = np.unique(queries, axis=0, return_inverse=True)
        if len(distinct) < len(queries):
            found = search(view, distinct, k, radius, mask, checkpoint, count_within=count_within)
            return [found[at] for at in place.ravel().tolist()]
    n_bits = view.segment.n_bits
    reach = n_bits if radius is None else min(radius, n_bits)
    searching = _Search(view, k, reach, mask, checkpoint)
    answers = _nearest(searching, queries)
    return answers if radius is None else searching.with_counts(answers, queries, count_within)


def _nearest(searching: _Search, queries: Words) -> list[Answer]:
    """Return the nearest rows of distinct queries, by tables or by a scan."""
    prepared = searching.tables(len(queries))
    if prepared is None:
        return searching.by_scan(queries)
    by_tables = partial(searching.by_tables, *prepared)
    if len(queries) < 2 * _QUERIES_PER_THREAD:
        return by_tables(queries)
    n_blocks = flat_scan.THREADS * -(-len(queries) // (flat_scan.THREADS * _BLOCK))
    blocks = np.array_split(queries, n_blocks)
    answers: list[Answer] = []
    # Only some blocks wait for a thread at a time, so that other searches do not wait for all.
    for first in range(0, n_blocks, _BLOCKS_AT_ONCE):
        for block in _POOL.map(by_tables, blocks[first : first + _BLOCKS_AT_ONCE]):
            answers += block
    return answers


class _Search:
    """What all queries of one search have in common."""

    def __init__(
        self,
        view: View,
        k: int,
        radius: int,
        mask: Mask | None,
        checkpoint: Checkpoint,
    ) -> None:
        self.view, self.k, self.radius = view, k, radius
        self._checkpoint = checkpoint
        self.segment = view.segment
        self.n_bits = view.segment.n_bits
        n = len(view.segment)
        # Rows of the segment that may be found, None for all; places in the tail of those that
        # may, None for all; and the codes of the latter.
        self.in_segment: Mask | None
        self.in_tail: NDArray[np.int64] | None
        self._counts: NDArray[Any] | None
        if mask is None:
            self.in_segment, n_allowed = view.live_in_segment
            self.in_tail, self.tail = view.live_in_tail, view.live_tail
            self._counts = view.counts
        else:
            allowed = mask if view.live is None else mask & view.live
            self.in_segment, self.in_tail = allowed[:n], np.flatnonzero(allowed[n:])
            self.tail = view.tail[self.in_tail]
            n_allowed = int(np.count_nonzero(self.in_segment))
            self._counts = self.segment.counts(self.in_segment)
        self.is_filtered = mask is not None
        self.share = n_allowed / n if n else 0.0

    def tables(self, n_queries: int) -> tuple[cost_model.Model, Tables] | None:
        """Return the cost model and the tables if they are expected to be cheaper than a scan."""
        prepared = self.segment.tables
        if prepared is None or self.share <= _LEAST_SHARE:
            return None
        # Table lookups also meet codes that are not allowed; a scan leaves them out.
        is_cheaper = prepared[0].prefers_tables(self.k / self.share, self.radius, n_queries)
        return prepared if is_cheaper else None

    def by_scan(self, queries: Words) -> list[Answer]:
        """Answer queries by a flat scan."""
        paths.count(scan=len(queries))
        words, places = self._codes_to_scan()
        answers = []
        for first in range(0, len(queries), _SCAN_BLOCK):
            block = queries[first : first + _SCAN_BLOCK]
            hits = flat_scan.scan(words, block, self.k, self.radius, self._checkpoint)
            if places is not None:
                hits = hits._replace(row=places[hits.row])
            covered = np.full(len(block), self.n_bits)
            answers += self._answers(block, hits, covered, np.full(len(block), len(words)))
        return answers

    def by_tables(self, model: cost_model.Model, tables: Tables, queries: Words) -> list[Answer]:
        """Answer queries by table lookups, or by a scan those that would cost more."""
        lookup = Lookup(model, tables, self._counts, queries, self.k, self.radius, self._checkpoint)
        hits, rest = lookup.hits, lookup.given_up
        paths.count(tables=len(queries) - len(rest), scan=len(rest))
        if len(rest):
            words, places = self._codes_to_scan()
            more = flat_scan.scan(words, queries[rest], self.k, self.radius, self._checkpoint)
            code = more.row if places is None else places[more.row]
            hits = Hits.join([hits, Hits(rest[more.query], more.distance, code)])
            lookup.n_compared[rest] += len(words)
            lookup.covered[rest] = self.n_bits
        return self._answers(queries, hits, lookup.covered, lookup.n_compared)

    def with_counts(self, answers: list[Answer], queries: Words, count_all: bool) -> list[Answer]:
        """Add to certificates how many rows are within the radius.

        Fewer than k found are all. Where k were found, the others are counted by a scan if
        `count_all`, and the number stays unknown otherwise.
        """
        within = [len(answer.rows) if len(answer.rows) < self.k else None for answer in answers]
        rest = [place for place, n in enumerate(within) if n is None] if count_all else []
        if rest:
            words, places = self._codes_to_scan()
            weights = (
                self._counts if places is None or self._counts is None else self._counts[places]
            )
            for place in rest:
                self._checkpoint()
                query = queries[place]
                n = flat_scan.count(words, query, self.radius, weights)
                within[place] = n + flat_scan.count(self.tail, query, self.radius)
        return [
            answer if n is None else answer.with_count(n)
            for answer, n in zip(answers, within, strict=True)
        ]

    def _codes_to_scan(self) -> tuple[Words, NDArray[np.int64] | None]:
        """Return the codes of rows that may be found, and their places; None for all."""
        return self.segment.used(self._counts) if self.is_filtered else self.view.live_codes

    def _answers(
        self,
        queries: Words,
        hits: Hits,
        covered: NDArray[np.int64],
        n_compared: NDArray[np.int64],
    ) -> list[Answer]:
        """Return answers from hits among the codes of the segment and a scan of the tail."""
        nq, width = len(queries), self.n_bits + 1
        weights = None if self._counts is None else self._counts[hits.row]
        histogram = np.bincount(hits.query * width + hits.distance, weights, nq * width)
        histogram = histogram.astype(np.int64).reshape(nq, width)
        # Rows of the tail beyond the k-th of the segment are not among the k nearest.
        radius = np.minimum(self.radius, (np.cumsum(histogram, axis=1) < self.k).sum(axis=1))
        in_tail = flat_scan.scan(self.tail, queries, self.k, radius, self._checkpoint)
        histogram += np.bincount(
            in_tail.query * width + in_tail.distance, minlength=nq * width
        ).reshape(nq, width)
        return self._cut(histogram, hits, in_tail, covered, n_compared + len(self.tail))

    def _cut(
        self,
        histogram: NDArray[np.int64],
        hits: Hits,
        in_tail: Hits,
        covered: NDArray[np.int64],
        n_compared: NDArray[np.int64],
    ) -> list[Answer]:
        """Return the k nearest rows. `histogram` counts the rows found, by query and distance."""
        nq, width = histogram.shape
        within = np.cumsum(histogram, axis=1)
        # The distance of the k-th neighbour, or of the farthest where there are fewer.
        last = (within < np.minimum(self.k, within[:, -1])[:, None]).sum(axis=1)
        ties = histogram[np.arange(nq), np.minimum(last, width - 1)]
        hits = select(hits, hits.distance <= last[hits.query])
        in_tail = select(in_tail, in_tail.distance <= last[in_tail.query])
        hits = self._rows_of(hits)
        hits = select(hits, np.lexsort((hits.row, hits.distance, hits.query)))
        firsts = np.searchsorted(hits.query, np.arange(nq + 1))
        rank = np.arange(len(hits.query)) - firsts[hits.query]
        hits = select(hits, rank < self.k)
        edges = np.searchsorted(hits.query, np.arange(nq + 1)).tolist()
        tail_hits = self._tail_hits(in_tail)
        answers = []
        for query, (tie, radius, n) in enumerate(
            zip(ties.tolist(), covered.tolist(), n_compared.tolist(), strict=True)
        ):
            part = slice(edges[query], edges[query + 1])
            rows, distances = hits.row[part], hits.distance[part]
            if query in tail_hits:
                rows, distances = self._merge(rows, distances, *tail_hits[query])
            answers.append(Answer(rows, distances, Certificate(True, radius, n, tie)))
        return answers

    def _rows_of(self, hits: Hits) -> Hits:
        """Return a hit for each row that has the code of a hit: for each hit the first k rows."""
        if self.in_segment is None:
            place, row = self.segment.members(hits.row, self.k)
            return Hits(hits.query[place], hits.distance[place], row)
        # Look up the rows of each code once, however many queries hit it: they may be very many.
        codes, code = np.unique(hits.row, return_inverse=True)
        place, row = self.segment.members(codes, None)
        is_allowed = self.in_segment[row]
        place, row = place[is_allowed], row[is_allowed]
        starts = np.searchsorted(place, np.arange(len(codes) + 1))
        sizes = np.minimum(np.diff(starts), self.k)[code]
        hit = np.repeat(np.arange(len(code)), sizes)
        rank = np.arange(len(hit)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return Hits(hits.query[hit], hits.distance[hit], row[starts[code[hit]] + rank])

    def _tail_hits(self, hits: Hits) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Return rows and distances of hits in the tail, by query."""
        if not len(hits.query):
            return {}
        row = hits.row if self.in_tail is None else self.in_tail[hits.row]
        row = row + len(self.segment)
        order = np.argsort(hits.query, kind="stable")
        queries, starts = np.unique(hits.query[order], return_index=True)
        rows = np.split(row[order], starts[1:])
        distances = np.split(hits.distance[order], starts[1:])
        return dict(zip(queries.tolist(), zip(rows, distances, strict=True), strict=True))

    def _merge(
        self,
        rows: NDArray[np.int64],
        distances: NDArray[np.int64],
        tail_rows: NDArray[np.int64],
        tail_distances: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the k nearest of both, with ties in the order of their ids."""
        rows = np.concatenate([rows, tail_rows])
        distances = np.concatenate([distances, tail_distances])
        order = by_value_and_id(self.view, distances, rows)[: self.k]
        return rows[order], distances[order]
