"""The items of a collection in memory: a segment, a tail of newer rows, and a list of dead rows.

Nothing that a reader can see is ever changed. Writes append rows to the tail and row numbers to the
list of dead rows. A view holds the lengths of both at one moment, so it costs nothing to take,
waits for no writer, and shows each batch of writes as a whole. From time to time a new segment is
built while the old one serves; when it replaces the old one, it takes over what was written
meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words
from index.callbacks import Checkpoint
from index.memory.batch import Batch
from index.memory.segment import Segment
from index.memory.view import SegmentMask, View

# A new segment is due when the tail, or the list of dead rows, has more rows than the larger of
# these: a number, and one in `_TAIL_SHARE` rows of the segment. Every search scans the tail in
# addition to using the tables.
_SMALLEST_TAIL = 4096
_TAIL_SHARE = 32


class GrowingArray:
    """An array to append to. A slice that was taken before does not change."""

    def __init__(self, width: int | None, dtype: Any) -> None:
        self._array = np.empty((0,) if width is None else (0, width), dtype)

    def write(self, at: int, values: NDArray[Any]) -> None:
        """Write values from place `at` on."""
        end = at + len(values)
        if end > len(self._array):
            room = max(256, end + end // 2)
            larger = np.empty((room, *self._array.shape[1:]), self._array.dtype)
            larger[:at] = self._array[:at]
            self._array = larger
        self._array[at:end] = values

    def first(self, n: int) -> NDArray[Any]:
        """Return the first n values."""
        return self._array[:n]


class Rows:
    """All items, for one writer at a time and any number of readers.

    Writes are staged. Readers see them after `publish`; `undo` discards them.
    """

    def __init__(self, n_bits: int, batch: Batch, *, is_estimated: bool = False) -> None:
        self.n_bits = n_bits
        self._is_estimated = is_estimated
        self._lock = Lock()
        self._views: WeakSet[View] = WeakSet()
        self._version = 0
        self._start(self._segment_of(batch))

    def _segment_of(self, batch: Batch) -> Segment:
        return Segment(batch, self.n_bits, is_estimated=self._is_estimated)

    def _start(self, segment: Segment) -> None:
        self._segment = segment
        width = segment.codes.shape[1]
        self._words, self._labels = GrowingArray(width, np.uint64), GrowingArray(None, np.int64)
        self._serials, self._dead = GrowingArray(None, np.int64), GrowingArray(None, np.int64)
        self._ids: list[str] = []
        # To find ids: live rows of the tail by id, and which rows of the segment are dead. Unlike
        # the masks of views, these change in place.
        self._tail_rows: dict[str, int] = {}
        self._dead_in_segment = np.zeros(len(segment), bool)
        self._segment_mask = SegmentMask(len(segment))
        # What is staged on top of that: rows of the tail by id, None for a deletion.
        self._staged_rows: dict[str, int | None] = {}
        # Lengths of the tail and of the list of dead rows: with what is staged, and without.
        self._staged_sizes = self._sizes = (0, 0)
        self._view: View | None = None

    def __len__(self) -> int:
        """Return the number of items that readers see."""
        with self._lock:
            n_tail, n_dead = self._sizes
            return len(self._segment) + n_tail - n_dead

    def view(self) -> View:
        """Return a view of the items that are there now."""
        with self._lock:
            return self._current_view()

    def _current_view(self) -> View:
        if self._view is None:
            n_tail, n_dead = self._sizes
            self._view = View(
                self._segment,
                self._words.first(n_tail),
                self._labels.first(n_tail),
                self._serials.first(n_tail),
                self._ids,
                self._dead.first(n_dead),
                self._version,
                self._segment_mask,
            )
            self._views.add(self._view)
        return self._view

    def locate(self, ids: Sequence[str]) -> tuple[View, NDArray[np.int64]]:
        """Return the current view and the row in it of each id, -1 for unknown ids."""
        with self._lock:
            return self._current_view(), self._find(ids)

    def _find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        n = len(self._segment)
        rows = np.array([self._tail_rows.get(item_id, -1) for item_id in ids], np.int64)
        rows[rows >= 0] += n
        unknown = np.flatnonzero(rows < 0)
        if n and len(unknown):
            found = self._segment.ids.find([ids[place] for place in unknown.tolist()])
            rows[unknown] = np.where((found >= 0) & ~self._dead_in_segment[found], found, -1)
        return rows

    def find_staged(self, ids: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the row and the serial number of each id, -1 for unknown ids.

        Staged writes count.
        """
        with self._lock:
            rows = self._find(ids)
            n = len(self._segment)
            if self._staged_rows:
                for place, item_id in enumerate(ids):
                    if item_id in self._staged_rows:
                        row = self._staged_rows[item_id]
                        rows[place] = -1 if row is None else row + n
            serials = np.full(len(rows), -1, np.int64)
            in_segment, in_tail = (rows >= 0) & (rows < n), rows >= n
            serials[in_segment] = self._segment.serials[rows[in_segment]]
            serials[in_tail] = self._serials.first(self._staged_sizes[0])[rows[in_tail] - n]
            return rows, serials

    def staged(self, rows: NDArray[np.int64]) -> tuple[Words, NDArray[np.int64]]:
        """Return the codes and labels of rows from `find_staged`."""
        with self._lock:
            n, n_tail = len(self._segment), self._staged_sizes[0]
            words = np.empty((len(rows), self._segment.codes.shape[1]), np.uint64)
            labels = np.empty(len(rows), np.int64)
            in_tail = rows >= n
            words[~in_tail] = self._segment.words(rows[~in_tail])
            labels[~in_tail] = self._segment.labels[rows[~in_tail]]
            words[in_tail] = self._words.first(n_tail)[rows[in_tail] - n]
            labels[in_tail] = self._labels.first(n_tail)[rows[in_tail] - n]
            return words, labels

    def stage(
        self,
        ids: Sequence[str],
        words: Words,
        labels: NDArray[np.int64],
        serials: NDArray[np.int64],
        replaced: NDArray[np.int64],
    ) -> None:
        """Stage new rows. `replaced` are the rows, from `find_staged`, that these ids had."""
        with self._lock:
            n_tail, n_dead = self._staged_sizes
            self._words.write(n_tail, words)
            self._labels.write(n_tail, labels)
            self._serials.write(n_tail, serials)
            self._dead.write(n_dead, replaced)
            self._ids.extend(ids)
            new_rows = range(n_tail, n_tail + len(ids))
            self._staged_rows.update(zip(ids, new_rows, strict=True))
            self._staged_sizes = n_tail + len(ids), n_dead + len(replaced)

    def stage_deletion(self, ids: Sequence[str], rows: NDArray[np.int64]) -> None:
        """Stage the deletion of ids that have these rows, from `find_staged`."""
        with self._lock:
            n_tail, n_dead = self._staged_sizes
            self._dead.write(n_dead, rows)
            self._staged_rows.update(dict.fromkeys(ids))
            self._staged_sizes = n_tail, n_dead + len(rows)

    def publish(self) -> None:
        """Make what is staged visible to readers."""
        with self._lock:
            if self._staged_sizes == self._sizes:
                return
            dead = self._dead.first(self._staged_sizes[1])[self._sizes[1] :]
            self._dead_in_segment[dead[dead < len(self._segment)]] = True
            for item_id, row in self._staged_rows.items():
                if row is None:
                    self._tail_rows.pop(item_id, None)
                else:
                    self._tail_rows[item_id] = row
            self._staged_rows.clear()
            self._sizes = self._staged_sizes
            self._version += 1
            self._view = None

    def undo(self) -> None:
        """Discard what is staged."""
        with self._lock:
            del self._ids[self._sizes[0] :]
            self._staged_rows.clear()
            self._staged_sizes = self._sizes

    def oldest(self) -> int:
        """Return the version of the oldest view in use. No reader sees anything older."""
        with self._lock:
            return min((view.version for view in self._views), default=self._version)

    @property
    def version(self) -> int:
        """Number of writes that were published."""
        return self._version

    @property
    def is_segment_due(self) -> bool:
        """Whether a new segment, or the tables of this one, should be built."""
        with self._lock:
            n_tail, n_dead = self._sizes
            if self._segment.is_prepared and not n_tail and not n_dead:
                return False
            limit = max(_SMALLEST_TAIL, len(self._segment) // _TAIL_SHARE)
            return not self._segment.is_prepared or max(n_tail, n_dead) > limit

    def build_segment(
        self,
        no_writes: AbstractContextManager[None],
        checkpoint: Checkpoint = lambda: None,
    ) -> None:
        """Build a new segment of all items while the old one serves, and switch to it.

        Parameters
        ----------
        no_writes : context manager
            Keeps out writers, none of which is then between finding rows and publishing them.
        checkpoint : callable
            Called between the steps of a long build. It may raise to give up: nothing has changed
            then.
        """
        view = self.view()
        if len(view.tail) or len(view.dead):
            batch = view.batch()
            checkpoint()
            segment = self._segment_of(batch)
        else:
            segment = view.segment
        checkpoint()
        segment.prepare(checkpoint)
        if segment is not view.segment:
            with no_writes, self._lock:
                self._switch(view, segment)

    def _switch(self, view: View, segment: Segment) -> None:
        """Replace the segment of a view by one that also holds the tail of that view.

        What was written after the view becomes the new tail and the new list of dead rows.
        """
        n, old_tail, old_dead = len(self._segment), len(view.tail), len(view.dead)
        n_tail, n_dead = self._sizes
        words, labels = self._words.first(n_tail), self._labels.first(n_tail)
        serials, ids = self._serials.first(n_tail)[old_tail:], self._ids[old_tail:n_tail]
        dead = self._dead.first(n_dead)[old_dead:]
        in_new_tail = dead >= n + old_tail
        names = view.names(dead[~in_new_tail])
        tail_rows = {i: row - old_tail for i, row in self._tail_rows.items() if row >= old_tail}
        self._start(segment)
        self._words.write(0, words[old_tail:])
        self._labels.write(0, labels[old_tail:])
        self._serials.write(0, serials)
        self._ids = ids
        moved = dead + (len(segment) - n - old_tail)
        moved[~in_new_tail] = segment.ids.find(names)
        self._dead.write(0, moved)
        self._dead_in_segment[moved[~in_new_tail]] = True
        self._tail_rows = tail_rows
        self._staged_sizes = self._sizes = len(ids), len(dead)
        self._view = None
