"""What a reader sees: the items of one moment, which no write changes."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes, Words, code_size, to_codes
from index.memory.batch import Batch
from index.memory.estimated import Scan
from index.memory.factors import factors_of
from index.memory.ids import pack
from index.memory.segment import Segment

Mask = NDArray[np.bool_]


class SegmentMask:
    """Which rows of a segment are live, derived for each moment from the moment before.

    The segment has `n` rows. Each of them dies at most once.
    """

    def __init__(self, n: int) -> None:
        self._lock = Lock()
        self._n = n
        self._n_dead = 0
        self._n_live = n
        self._mask: Mask | None = None

    def at(self, dead: NDArray[np.int64]) -> tuple[Mask | None, int]:
        """Return a mask of the live rows and their number.

        Parameters
        ----------
        dead : (m,)
            All rows that are dead at that moment, in the order in which they died. Rows beyond the
            segment do not count.

        Returns
        -------
        mask : (n,) bool, optional
            None where all rows are live.
        n_live : int
        """
        with self._lock:
            if len(dead) < self._n_dead:  # An earlier moment than that of the last call.
                in_segment = dead[dead < self._n]
                return _without(None, in_segment, self._n), self._n - len(in_segment)
            new = dead[self._n_dead :]
            new = new[new < self._n]
            self._mask = _without(self._mask, new, self._n)
            self._n_dead, self._n_live = len(dead), self._n_live - len(new)
            return self._mask, self._n_live


def _without(mask: Mask | None, dead: NDArray[np.int64], n: int) -> Mask | None:
    """Return a mask of n rows, None for all, without some more; the given mask stays as it is."""
    if not len(dead):
        return mask
    left = np.ones(n, bool) if mask is None else mask.copy()
    left[dead] = False
    return left


class View:
    """The items of one moment: live rows among those of a segment and of a tail after it.

    Attributes
    ----------
    segment : Segment
    tail : (t, words) uint64
        Codes of the rows after those of the segment.
    dead : (m,)
        Rows that are not there any more, in the order in which they died.
    version : int
        Number of writes that were published before.
    """

    def __init__(
        self,
        segment: Segment,
        words: Words,
        labels: NDArray[np.int64],
        serials: NDArray[np.int64],
        ids: list[str],
        dead: NDArray[np.int64],
        version: int,
        segment_mask: SegmentMask,
    ) -> None:
        self.segment = segment
        self.tail = words
        self._labels, self._serials, self._ids = labels, serials, ids
        self.dead = dead
        self.version = version
        self._segment_mask = segment_mask

    def __len__(self) -> int:
        return self.n_rows - len(self.dead)

    @property
    def n_rows(self) -> int:
        """Number of rows, live or dead."""
        return len(self.segment) + len(self.tail)

    @cached_property
    def live(self) -> Mask | None:
        """A mask of the live rows; None where all are live."""
        return _without(None, self.dead, self.n_rows)

    def live_rows(self) -> NDArray[np.int64]:
        """Return the live rows, ascending."""
        return np.arange(self.n_rows) if self.live is None else np.flatnonzero(self.live)

    def live_among(self, mask: Mask) -> NDArray[np.int64]:
        """Return the live rows that a mask of all rows allows, ascending."""
        return np.flatnonzero(mask if self.live is None else mask & self.live)

    @cached_property
    def live_in_segment(self) -> tuple[Mask | None, int]:
        """A mask of the live rows of the segment, None where all are live; and their number."""
        return self._segment_mask.at(self.dead)

    @cached_property
    def live_in_tail(self) -> NDArray[np.int64] | None:
        """The live rows of the tail, counted from its first; None where all are live."""
        n = len(self.segment)
        mask = _without(None, self.dead[self.dead >= n] - n, len(self.tail))
        return None if mask is None else np.flatnonzero(mask)

    @cached_property
    def live_tail(self) -> Words:
        """The codes of the live rows of the tail."""
        return self.tail if self.live_in_tail is None else self.tail[self.live_in_tail]

    @cached_property
    def counts(self) -> NDArray[Any] | None:
        """The number of live rows with each code of the segment; None where it is one each."""
        mask, _ = self.live_in_segment
        if mask is None and not self.segment.shares_codes:
            return None
        return self.segment.counts(mask)

    @cached_property
    def live_codes(self) -> tuple[Words, NDArray[np.int64] | None]:
        """The codes of the segment that live rows have, and their places; None for all."""
        return self.segment.used(self.counts if self.live_in_segment[0] is not None else None)

    @cached_property
    def tail_scan(self) -> Scan:
        """A scan of the tail, where distances are estimated."""
        return Scan(self.tail, self.segment.n_bits)

    @property
    def tail_serials(self) -> NDArray[np.int64]:
        """The serial numbers of the rows of the tail."""
        return self._serials

    def names(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the ids of rows."""
        n = len(self.segment)
        if not len(self.tail) or not (in_tail := rows >= n).any():
            return self.segment.ids.names(rows)
        names = self.segment.ids.names(np.where(in_tail, 0, rows)) if n else [""] * len(rows)
        for place in np.flatnonzero(in_tail).tolist():
            names[place] = self._ids[rows[place] - n]
        return names

    def having(self, ids: Collection[str], rows: NDArray[np.int64] | None = None) -> Mask:
        """Return a mask of rows, or of all rows, that have one of some ids."""
        if rows is not None:
            return np.fromiter(map(ids.__contains__, self.names(rows)), bool, len(rows))
        n = len(self.segment)
        mask = np.zeros(self.n_rows, bool)
        found = self.segment.ids.find(list(ids))
        mask[found[found >= 0]] = True
        mask[n:] = np.fromiter(map(ids.__contains__, self._ids[: len(self.tail)]), bool)
        return mask

    def labels(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the labels of rows, or of all rows; -1 for none."""
        return self._pick(self.segment.labels, self._labels, rows)

    def serials(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the serial numbers in the record of rows, or of all rows."""
        return self._pick(self.segment.serials, self._serials, rows)

    def words(self, rows: NDArray[np.int64]) -> Words:
        """Return the codes of rows as words."""
        n = len(self.segment)
        out = np.empty((len(rows), self.tail.shape[1]), np.uint64)
        in_tail = rows >= n
        out[~in_tail] = self.segment.words(rows[~in_tail])
        out[in_tail] = self.tail[rows[in_tail] - n]
        return out

    def codes(self, rows: NDArray[np.int64]) -> Codes:
        """Return the packed codes of rows."""
        return to_codes(self.words(rows), code_size(self.segment.n_bits))

    def factors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the factors of rows, where distances are estimated."""
        return factors_of(self.words(rows), self.segment.n_bits).astype(np.float32)

    def _pick(
        self,
        of_segment: NDArray[np.integer],
        of_tail: NDArray[np.int64],
        rows: NDArray[np.int64] | None,
    ) -> NDArray[np.int64]:
        if rows is None:
            return np.concatenate([of_segment.astype(np.int64), of_tail])
        out = np.empty(len(rows), np.int64)
        in_tail = rows >= len(of_segment)
        out[~in_tail] = of_segment[rows[~in_tail]]
        out[in_tail] = of_tail[rows[in_tail] - len(of_segment)]
        return out

    def batch(self) -> Batch:
        """Return all live items as columns."""
        n, rows = len(self.segment), self.live_rows()
        n_in_segment = int(np.searchsorted(rows, n))
        late = rows[n_in_segment:] - n
        data, lengths = pack([self._ids[row] for row in late.tolist()])
        tail = Batch(data, lengths, self.tail[late], self._labels[late], self._serials[late])
        return Batch.join([self.segment.batch(rows[:n_in_segment]), tail], self.tail.shape[1])
