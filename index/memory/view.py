"""What a reader sees: the items of one moment, which no write changes."""

from __future__ import annotations

from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes, Words, code_size, to_codes
from index.memory.batch import Batch
from index.memory.ids import pack
from index.memory.segment import Segment


class Alive:
    """Which rows of a segment are there: each moment's answer is made from that of the one before.

    For `n` rows; each dies once.
    """

    def __init__(self, n: int) -> None:
        self._lock = Lock()
        self._n_dead = 0
        self._left = n
        self._rows: NDArray[np.bool_] | None = None

    def after(self, dead: NDArray[np.int64], n: int) -> tuple[NDArray[np.bool_] | None, int]:
        """What is left of n rows when those among `dead` have died, None for all; and how many."""
        with self._lock:
            if len(dead) < self._n_dead:  # An earlier moment than the last one asked about.
                early = dead[dead < n]
                return _without(None, early, n), n - len(early)
            new = dead[self._n_dead :]
            new = new[new < n]
            self._rows = _without(self._rows, new, n)
            self._n_dead, self._left = len(dead), self._left - len(new)
            return self._rows, self._left


def _without(
    rows: NDArray[np.bool_] | None, dead: NDArray[np.int64], n: int
) -> NDArray[np.bool_] | None:
    if not len(dead):
        return rows
    left = np.ones(n, bool) if rows is None else rows.copy()
    left[dead] = False
    return left


class View:
    """The items of one moment. Rows of the tail come after those of the segment."""

    def __init__(
        self,
        segment: Segment,
        words: Words,
        labels: NDArray[np.int64],
        serials: NDArray[np.int64],
        ids: list[str],
        dead: NDArray[np.int64],
        version: int,
        alive: Alive,
    ) -> None:
        self.segment = segment
        self.tail = words
        self._labels, self._serials, self._ids = labels, serials, ids
        self.dead = dead
        self.version = version
        self._alive = alive

    def __len__(self) -> int:
        return self.n_rows - len(self.dead)

    @property
    def n_rows(self) -> int:
        """Rows, the dead ones too."""
        return len(self.segment) + len(self.tail)

    @cached_property
    def alive(self) -> NDArray[np.bool_] | None:
        """Which rows are there; None for all."""
        return _without(None, self.dead, self.n_rows)

    @cached_property
    def early(self) -> tuple[NDArray[np.bool_] | None, int]:
        """Which rows of the segment are there, None for all; and how many."""
        return self._alive.after(self.dead, len(self.segment))

    @cached_property
    def late(self) -> NDArray[np.int64] | None:
        """Which rows of the tail are there; None for all."""
        n = len(self.segment)
        left = _without(None, self.dead[self.dead >= n] - n, len(self.tail))
        return None if left is None else np.flatnonzero(left)

    @cached_property
    def late_words(self) -> Words:
        """The codes of those."""
        return self.tail if self.late is None else self.tail[self.late]

    @cached_property
    def counts(self) -> NDArray[Any] | None:
        """How many rows of the segment have each of its codes; None for one each."""
        early, _ = self.early
        if early is None and not self.segment.shares_codes:
            return None
        return self.segment.counts(early)

    @cached_property
    def left(self) -> tuple[Words, NDArray[np.int64] | None]:
        """The codes of the segment that rows have, and which of all they are, None for all."""
        return self.segment.having(self.counts if self.early[0] is not None else None)

    @property
    def tail_serials(self) -> NDArray[np.int64]:
        """The numbers of the rows of the tail."""
        return self._serials

    def live_rows(self) -> NDArray[np.int64]:
        """Return the rows that are there, ascending."""
        return np.arange(self.n_rows) if self.alive is None else np.flatnonzero(self.alive)

    def names(self, rows: NDArray[np.int64]) -> list[str]:
        """The ids of rows."""
        n = len(self.segment)
        if not len(self.tail) or not (late := rows >= n).any():
            return self.segment.ids.names(rows)
        names = self.segment.ids.names(np.where(late, 0, rows)) if n else [""] * len(rows)
        for place in np.flatnonzero(late).tolist():
            names[place] = self._ids[rows[place] - n]
        return names

    def labels(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Labels of rows, or of all; -1 for none."""
        return self._pick(self.segment.labels, self._labels, rows)

    def serials(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The numbers of rows in the record."""
        return self._pick(self.segment.serials, self._serials, rows)

    def words(self, rows: NDArray[np.int64]) -> Words:
        """Codes of rows."""
        n = len(self.segment)
        out = np.empty((len(rows), self.tail.shape[1]), np.uint64)
        late = rows >= n
        out[~late] = self.segment.words(rows[~late])
        out[late] = self.tail[rows[late] - n]
        return out

    def codes(self, rows: NDArray[np.int64]) -> Codes:
        """Return the packed codes of rows."""
        return to_codes(self.words(rows), code_size(self.segment.n_bits))

    def _pick(
        self,
        early: NDArray[np.integer],
        late: NDArray[np.int64],
        rows: NDArray[np.int64] | None,
    ) -> NDArray[np.int64]:
        if rows is None:
            return np.concatenate([early.astype(np.int64), late])
        out = np.empty(len(rows), np.int64)
        is_late = rows >= len(early)
        out[~is_late] = early[rows[~is_late]]
        out[is_late] = late[rows[is_late] - len(early)]
        return out

    def batch(self) -> Batch:
        """All that is there, as columns."""
        alive = np.ones(self.n_rows, bool) if self.alive is None else self.alive
        n = len(self.segment)
        late = np.flatnonzero(alive[n:])
        data, lengths = pack([self._ids[row] for row in late.tolist()])
        tail = Batch(data, lengths, self.tail[late], self._labels[late], self._serials[late])
        return Batch.join([self.segment.batch(alive[:n]), tail], self.tail.shape[1])
