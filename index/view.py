"""What a reader sees: the items of one moment, which no write changes."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from index.ids import pack
from index.segment import Batch, Segment
from index.words import Words


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
    ) -> None:
        self.segment = segment
        self.tail = words
        self._labels, self._serials, self._ids = labels, serials, ids
        self.dead = dead
        self.version = version

    def __len__(self) -> int:
        return self.n_rows - len(self.dead)

    @property
    def n_rows(self) -> int:
        """Rows, the dead ones too."""
        return len(self.segment) + len(self.tail)

    @cached_property
    def alive(self) -> NDArray[np.bool_] | None:
        """Which rows are there; None for all."""
        if not len(self.dead):
            return None
        alive = np.ones(self.n_rows, bool)
        alive[self.dead] = False
        return alive

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
