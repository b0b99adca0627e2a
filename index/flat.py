"""Exact Hamming search: a Faiss flat binary index whose rows carry string ids."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
Found = list[tuple[int, str]]
"""Distance and id, ascending by both."""


_THREADS = faiss.omp_get_max_threads()
_FEW = 16


class FlatIndex:
    """Codes in memory, found by id and by Hamming distance. Not safe for threads.

    Rows are dense and in no order: a deleted row is filled by the last one, so that an upsert or
    a delete costs the same in a large index as in a small one.
    """

    def __init__(self, n_bits: int) -> None:
        self.size = (n_bits + 7) // 8
        # Faiss's stubs leave out the memory of the index.
        self._faiss: Any = faiss.IndexBinaryFlat(8 * self.size)
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._rows

    def upsert(self, ids: Sequence[str], codes: Codes) -> None:
        """Set the codes of ids, new or not. `codes` is (n, size); no id may stand twice."""
        rows = [self._rows.get(item_id, -1) for item_id in ids]
        old = np.flatnonzero(np.array(rows, np.int64) >= 0)
        if old.size:
            self._codes()[np.array(rows)[old]] = codes[old]
        new = [i for i, row in enumerate(rows) if row < 0]
        if new:
            self._faiss.add(np.ascontiguousarray(codes[new]))
            for i in new:
                self._rows[ids[i]] = len(self._ids)
                self._ids.append(ids[i])

    def delete(self, ids: Sequence[str]) -> None:
        """Remove ids that are there, each once."""
        codes = self._codes()
        for item_id in ids:
            row, last = self._rows.pop(item_id), self._ids.pop()
            if last != item_id:
                codes[row] = codes[len(self._ids)]
                self._ids[row] = last
                self._rows[last] = row
        del codes
        self._faiss.xb.resize(len(self._ids) * self.size)
        self._faiss.ntotal = len(self._ids)

    def codes(self, ids: Sequence[str]) -> Codes:
        """The codes of ids that are there, (len(ids), size)."""
        return self._codes()[[self._rows[item_id] for item_id in ids]]

    def search(self, queries: Codes, k: int, radius: int | None = None) -> list[Found]:
        """The k nearest of each query, within `radius` where one is given.

        Exact. Ties are broken by id, at the k-th place too; there are fewer than k where the
        index or the radius holds fewer.
        """
        k = min(k, len(self))
        if k == 0 or len(queries) == 0:
            return [[] for _ in range(len(queries))]
        # Threads that wait for a busy core cost a few queries more than they bring.
        faiss.omp_set_num_threads(1 if len(queries) < _FEW else _THREADS)
        queries = np.ascontiguousarray(queries)
        # One more than asked for tells whether the k-th place is a tie.
        distances, rows = self._faiss.search(queries, min(k + 1, len(self)))
        tied = np.zeros(len(queries), bool)
        if k < len(self):
            tied = distances[:, k] == distances[:, k - 1]
            if radius is not None:
                tied &= distances[:, k] <= radius
        found: list[Found] = [
            [] if cut else sorted(zip(near.tolist(), self._names(at), strict=True))
            for cut, near, at in zip(tied.tolist(), distances[:, :k], rows[:, :k], strict=True)
        ]
        for cut_at in np.unique(distances[tied, k - 1]).tolist():
            among = np.flatnonzero(tied & (distances[:, k - 1] == cut_at))
            for start in range(0, len(among), _FEW):
                part = among[start : start + _FEW]
                for query, near in zip(part, self._within(queries[part], cut_at, k), strict=True):
                    found[query] = near
        if radius is not None:
            found = [[pair for pair in near if pair[0] <= radius] for near in found]
        return found

    def _within(self, queries: Codes, radius: int, k: int) -> list[Found]:
        """The k nearest of each query, where more than k lie within `radius`, many just there."""
        # Faiss finds what is strictly nearer than the number it is given.
        limits, distances, rows = self._faiss.range_search(queries, radius + 1)
        found = []
        for first, last in zip(limits[:-1].tolist(), limits[1:].tolist(), strict=True):
            near, at = distances[first:last].astype(np.int64), rows[first:last]
            closer = near < radius
            inside = sorted(zip(near[closer].tolist(), self._names(at[closer]), strict=True))
            tie = heapq.nsmallest(k - len(inside), self._names(at[~closer]))
            found.append(inside + [(radius, item_id) for item_id in tie])
        return found

    def _names(self, rows: NDArray[np.int64]) -> list[str]:
        return [self._ids[row] for row in rows.tolist()]

    def _codes(self) -> Codes:
        """Faiss's own memory, (n, size): valid until the next row is added or removed."""
        if not self._ids:
            return np.empty((0, self.size), np.uint8)
        codes: Codes = faiss.rev_swig_ptr(self._faiss.xb.data(), len(self._ids) * self.size)
        return codes.reshape(-1, self.size)
