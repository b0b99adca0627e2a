"""The inside of a collection: its rows in memory and its record on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words
from index.errors import AlreadyExists, InvalidItems, NotFound
from index.filters.cache import ColumnCache
from index.filters.columns import Columns
from index.memory.batch import Batch
from index.memory.ids import pack
from index.memory.rows import Rows
from index.memory.view import View
from index.storage.catalog import Row
from index.storage.database import Database
from index.storage.patches import Patches
from index.storage.record import Record
from index.validation import check_keeps_descriptors

T = TypeVar("T")


class State:
    """A collection as the modules of the index see it; `Collection` is its public side.

    Snapshots, re-encoding and maintenance work on the state itself. It does not check arguments.
    Safe for threads.

    Attributes
    ----------
    key, name, n_bits, encoder, fingerprint
        As in the table of collections.
    descriptor_type : {"float16", "float32"}, optional
        How descriptors are kept; None if they are not.
    metric : {"euclidean", "cosine", "dot"}, optional
        What is estimated to rank items; None where they are ranked by Hamming distance.
    dimension : int, optional
        The dimension of the descriptors that are kept; None before the first.
    removed : NotFound, optional
        Set once the collection has been dropped or re-encoded; calls then raise an error like it.
    """

    def __init__(
        self, database: Database, row: Row, cache: ColumnCache, wake: Callable[[State], None]
    ) -> None:
        self.key, self.name, self.n_bits, self.encoder, self.fingerprint, *_ = row
        self.metric = row.metric
        self.descriptor_type = row.descriptor_type
        self.database = database
        self.removed: NotFound | None = None
        is_estimated = row.metric is not None
        self.record = Record(
            database, self.key, self.n_bits, row.descriptor_type, is_estimated=is_estimated
        )
        self.rows = Rows(self.n_bits, self.record.load(), is_estimated=is_estimated)
        self.columns = Columns(self.record, cache)
        self.patches = Patches(database, self.key)
        self.dimension = self.record.dimension()
        self._changed: set[str] | None = None
        # For `no_writes`: the number of writes in progress, and whether others have to wait.
        self._writers = Condition()
        self._n_writing = 0
        self._is_held = False
        self._wake = wake
        wake(self)

    def put(
        self,
        ids: Sequence[str],
        words: Words,
        labels: NDArray[np.int64],
        texts: Sequence[str | None] | None,
        descriptors: NDArray[Any] | None,
    ) -> None:
        """Insert or replace items that have been checked: labels -1 for none, payloads as JSON."""
        if not ids:
            return
        data, lengths = pack(ids)
        batch = Batch(data, lengths, words, labels, np.empty(0, np.int64))

        def work(connection: sqlite3.Connection) -> None:
            self.check_present()
            if descriptors is not None:
                self._check_dimension(descriptors.shape[1])
            rows, serials = self.rows.find_staged(ids)
            present = rows >= 0
            with self.record.all_or_nothing():
                new = self.record.insert(connection, batch, texts, descriptors, serials[present])
                self.rows.stage(ids, words, labels, new, rows[present])
            if descriptors is not None:
                dimensions.append(self.dimension)
                self.dimension = descriptors.shape[1]

        def undo() -> None:
            if dimensions:
                self.dimension = dimensions.pop()

        dimensions: list[int | None] = []
        self.write(work, ids, undo)

    def _check_dimension(self, dimension: int) -> None:
        if self.dimension not in (None, dimension):
            raise InvalidItems(f"expected descriptors of {self.dimension} numbers, got {dimension}")

    def delete(self, ids: Sequence[str]) -> int:
        """Delete the items with these ids, each given once; return how many there were."""

        def work(connection: sqlite3.Connection) -> int:
            self.check_present()
            rows, serials = self.rows.find_staged(ids)
            places = np.flatnonzero(rows >= 0)
            with self.record.all_or_nothing():
                self.record.delete(connection, serials[places])
                self.rows.stage_deletion([ids[place] for place in places.tolist()], rows[places])
            return len(places)

        return self.write(work, ids)

    def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        ids: Sequence[str],
        undo_more: Callable[[], None] = lambda: None,
    ) -> T:
        """Call `work`, which changes the items with these ids; see `Database.write`."""
        with self._writing():
            return self._commit(work, ids, undo_more)

    @contextmanager
    def writing_alone(self) -> Iterator[None]:
        """Let all other writes wait during the block, which may call `delete_rows`."""
        # In this order: `no_writes` waits for writes in progress before it waits for the database.
        with self._writing(), self.database.exclusive():
            self.check_present()
            yield

    def delete_rows(self, view: View, rows: NDArray[np.int64]) -> None:
        """Delete rows of the current view, inside `writing_alone`."""
        ids, serials = view.names(rows), view.serials(rows)

        def work(connection: sqlite3.Connection) -> None:
            with self.record.all_or_nothing():
                self.record.delete(connection, serials)
                self.rows.stage_deletion(ids, rows)

        self._commit(work, ids)

    def _commit(
        self,
        work: Callable[[sqlite3.Connection], T],
        ids: Sequence[str],
        undo_more: Callable[[], None] = lambda: None,
    ) -> T:
        def publish() -> None:
            self.rows.publish()
            self.record.publish(self.rows.version)
            # Another thread may set it to None at any moment.
            if (changed := self._changed) is not None:
                changed.update(ids)

        def undo() -> None:
            self.rows.undo()
            self.record.undo()
            undo_more()

        result = self.database.write(work, publish, undo)
        if self.rows.is_segment_due or self.record.due:
            self._wake(self)
        return result

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._writers:
            self._writers.wait_for(lambda: not self._is_held)
            self._n_writing += 1
        try:
            yield
        finally:
            with self._writers:
                self._n_writing -= 1
                self._writers.notify_all()

    @contextmanager
    def no_writes(self) -> Iterator[None]:
        """Let all writes to this collection wait during the block, but none to other ones."""
        with self._writers:
            self._is_held = True
            self._writers.wait_for(lambda: not self._n_writing)
        try:
            yield
        finally:
            with self._writers:
                self._is_held = False
                self._writers.notify_all()

    def live(self) -> tuple[View, NDArray[np.int64]]:
        """Return a view of the current items, and its live rows."""
        self.check_present()
        view = self.rows.view()
        return view, view.live_rows()

    def find(self, ids: Sequence[str]) -> tuple[View, NDArray[np.int64]]:
        """Return a view of the current items, and the row of each of `ids` in it.

        Raises
        ------
        NotFound
            There is no such item.
        """
        view, rows = self.rows.locate(ids)
        self.check_found(ids, rows)
        return view, rows

    def check_found(self, ids: Sequence[str], rows: NDArray[np.int64]) -> None:
        """Raise NotFound if one of the rows of `ids` is -1."""
        if (rows < 0).any():
            missing = ids[int(np.argmax(rows < 0))]
            raise NotFound(f"there is no item {missing!r} in collection {self.name!r}")

    def payload_texts(self, view: View, rows: NDArray[np.int64]) -> list[str | None]:
        """Return the payloads of rows as JSON, None for items without one."""
        serials = view.serials(rows).tolist()
        with self.reading():
            texts = self.record.payloads(serials)
        return [texts.get(serial) for serial in serials]

    def descriptors(self, view: View, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the descriptors of rows of a collection that keeps them."""
        with self.reading():
            return self.record.descriptors(view.serials(rows).tolist())

    def check_keeps_descriptors(self) -> None:
        """Raise InvalidItems unless the collection keeps descriptors."""
        check_keeps_descriptors(self.name, self.descriptor_type)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raise `removed` if what the block reads from the record may have been deleted.

        The record of a removed collection is deleted only after `removed` has been set, so that
        checking it after reading is enough.
        """
        self.check_present()
        try:
            yield
        except KeyError:
            self.check_present()
            raise
        self.check_present()

    def remove(self, error: NotFound) -> None:
        """Set `removed`, and free the memory of columns."""
        self.removed = error
        self.columns.close()

    def check_present(self) -> None:
        """Raise an error like `removed` if the collection has been dropped or re-encoded."""
        if self.removed is not None:
            # A new one each time: an exception that is raised again keeps the frames of before.
            raise type(self.removed)(*self.removed.args)

    def track_changes(self) -> None:
        """Collect the ids that are written from now on, for `take_changes`."""
        self.check_present()
        self.check_keeps_descriptors()
        with self.database.exclusive():
            if self._changed is not None:
                raise AlreadyExists(f"collection {self.name!r} is already being re-encoded")
            self._changed = set()

    def take_changes(self) -> list[str]:
        """Return the ids that were written since the last call, in ascending order."""
        with self.database.exclusive():
            changed, self._changed = self._changed or set(), set()
        return sorted(changed)

    def stop_tracking(self) -> None:
        """End `track_changes`."""
        self._changed = None
