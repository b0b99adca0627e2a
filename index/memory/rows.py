"""The items of a collection in memory: a segment at rest, a tail of what is new, what has died.

Nothing that a reader can see is ever changed. Writes append rows to the tail and row numbers to the
list of the dead; a view is the lengths of both at one moment, so it costs nothing to take, waits
for no writer, and shows batches whole. A new segment is built beside the old one from time to
time, and takes up what was written meanwhile when it replaces it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words, word_count
from index.memory.batch import Batch
from index.memory.segment import Segment
from index.memory.view import Alive, View

_SMALLEST_TAIL = 4096
# A tail of one in this many rows costs a scan of them beside the tables.
_TAIL = 32


class Growing:
    """An array that is appended to; a slice taken before stays as it was."""

    def __init__(self, width: int | None, dtype: Any) -> None:
        self._array = np.empty((0,) if width is None else (0, width), dtype)

    def put(self, at: int, values: NDArray[Any]) -> None:
        """Write values from a place on."""
        end = at + len(values)
        if end > len(self._array):
            room = max(256, end + end // 2)
            larger = np.empty((room, *self._array.shape[1:]), self._array.dtype)
            larger[:at] = self._array[:at]
            self._array = larger
        self._array[at:end] = values

    def first(self, n: int) -> NDArray[Any]:
        """The first n."""
        return self._array[:n]


class Rows:
    """All items, for one writer at a time and any number of readers.

    Writes are staged; readers see them from `publish` on, and `undo` takes them back.
    """

    def __init__(self, n_bits: int, batch: Batch) -> None:
        self.n_bits = n_bits
        self._lock = Lock()
        self._views: WeakSet[View] = WeakSet()
        self._version = 0
        self._start(Segment(batch, n_bits))

    def _start(self, segment: Segment) -> None:
        self._segment = segment
        width = word_count(self.n_bits)
        self._words, self._labels = Growing(width, np.uint64), Growing(None, np.int64)
        self._serials, self._dead = Growing(None, np.int64), Growing(None, np.int64)
        self._ids: list[str] = []
        # Rows of the tail by id, and which of the segment are dead, for finding.
        self._late: dict[str, int] = {}
        self._gone = np.zeros(len(segment), bool)
        self._alive = Alive(len(segment))
        # What is staged on top of those: rows by id, None where it dies.
        self._staged: dict[str, int | None] = {}
        self._at = self._seen = (0, 0)
        self._view: View | None = None

    def __len__(self) -> int:
        """How many items readers see."""
        with self._lock:
            return len(self._segment) + self._seen[0] - self._seen[1]

    def view(self) -> View:
        """What is there now."""
        with self._lock:
            return self._now()

    def _now(self) -> View:
        if self._view is None:
            n_tail, n_dead = self._seen
            self._view = View(
                self._segment,
                self._words.first(n_tail),
                self._labels.first(n_tail),
                self._serials.first(n_tail),
                self._ids,
                self._dead.first(n_dead),
                self._version,
                self._alive,
            )
            self._views.add(self._view)
        return self._view

    def locate(self, ids: Sequence[str]) -> tuple[View, NDArray[np.int64]]:
        """What is there now, and the row of each id in it, -1 where there is none."""
        with self._lock:
            return self._now(), self._find(ids)

    def _find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        n = len(self._segment)
        rows = np.array([self._late.get(item_id, -1) for item_id in ids], np.int64)
        rows[rows >= 0] += n
        unknown = np.flatnonzero(rows < 0)
        if n and len(unknown):
            found = self._segment.ids.find([ids[place] for place in unknown.tolist()])
            rows[unknown] = np.where((found >= 0) & ~self._gone[found], found, -1)
        return rows

    def find_staged(self, ids: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and serial of each id, -1 where there is none; writes that are staged count."""
        with self._lock:
            rows = self._find(ids)
            n = len(self._segment)
            if self._staged:
                for place, item_id in enumerate(ids):
                    if item_id in self._staged:
                        row = self._staged[item_id]
                        rows[place] = -1 if row is None else row + n
            serials = np.full(len(rows), -1, np.int64)
            early, late = (rows >= 0) & (rows < n), rows >= n
            serials[early] = self._segment.serials[rows[early]]
            serials[late] = self._serials.first(self._at[0])[rows[late] - n]
            return rows, serials

    def stage(
        self,
        ids: Sequence[str],
        words: Words,
        labels: NDArray[np.int64],
        serials: NDArray[np.int64],
        replaced: NDArray[np.int64],
    ) -> None:
        """New rows under ids; `replaced` are the rows, from `find_staged`, that these ids had."""
        with self._lock:
            at, n_dead = self._at
            self._words.put(at, words)
            self._labels.put(at, labels)
            self._serials.put(at, serials)
            self._dead.put(n_dead, replaced)
            self._ids.extend(ids)
            self._staged.update(zip(ids, range(at, at + len(ids)), strict=True))
            self._at = at + len(ids), n_dead + len(replaced)

    def stage_deletion(self, ids: Sequence[str], rows: NDArray[np.int64]) -> None:
        """Let items die."""
        with self._lock:
            at, n_dead = self._at
            self._dead.put(n_dead, rows)
            self._staged.update(dict.fromkeys(ids))
            self._at = at, n_dead + len(rows)

    def publish(self) -> None:
        """Show readers what is staged."""
        with self._lock:
            if self._at == self._seen:
                return
            dead = self._dead.first(self._at[1])[self._seen[1] :]
            self._gone[dead[dead < len(self._segment)]] = True
            for item_id, row in self._staged.items():
                if row is None:
                    self._late.pop(item_id, None)
                else:
                    self._late[item_id] = row
            self._staged.clear()
            self._seen = self._at
            self._version += 1
            self._view = None

    def undo(self) -> None:
        """Forget what is staged."""
        with self._lock:
            del self._ids[self._seen[0] :]
            self._staged.clear()
            self._at = self._seen

    def oldest(self) -> int:
        """The version of the oldest view that is in use; all below it are seen by nobody."""
        with self._lock:
            return min((view.version for view in self._views), default=self._version)

    @property
    def version(self) -> int:
        """How often something was published."""
        return self._version

    @property
    def unsettled(self) -> bool:
        """Whether a new segment is due."""
        with self._lock:
            n_tail, n_dead = self._seen
            if self._segment.settled and not n_tail and not n_dead:
                return False
            n = len(self._segment)
            most = max(_SMALLEST_TAIL, n // _TAIL)
            return not self._segment.settled or max(n_tail, n_dead) > most

    def settle(
        self,
        no_writes: AbstractContextManager[None],
        checkpoint: Callable[[], None] = lambda: None,
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
            segment = Segment(batch, self.n_bits)
        else:
            segment = view.segment
        checkpoint()
        segment.prepare(checkpoint)
        if segment is view.segment:
            return
        with no_writes, self._lock:
            n, tail_then, dead_then = len(self._segment), len(view.tail), len(view.dead)
            n_tail, n_dead = self._seen
            words, labels = self._words.first(n_tail), self._labels.first(n_tail)
            serials, ids = self._serials.first(n_tail)[tail_then:], self._ids[tail_then:n_tail]
            dead = self._dead.first(n_dead)[dead_then:]
            later = dead >= n + tail_then
            names = view.names(dead[~later])
            alive_late = {i: row for i, row in self._late.items() if row >= tail_then}
            self._start(segment)
            self._words.put(0, words[tail_then:])
            self._labels.put(0, labels[tail_then:])
            self._serials.put(0, serials)
            self._ids = ids
            moved = dead + (len(segment) - n - tail_then)
            moved[~later] = segment.ids.find(names)
            self._dead.put(0, moved)
            self._gone[moved[~later]] = True
            self._late = {item_id: row - tail_then for item_id, row in alive_late.items()}
            self._at = self._seen = len(ids), len(dead)
            self._view = None
