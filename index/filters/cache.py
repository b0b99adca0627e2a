"""The columns that are kept in memory, within a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from index.filters.column import Column
from index.filters.fields import Field


class ColumnCache:
    """The columns of all collections of a store, of which the least recently used are dropped.

    Columns are kept only of collections that are open, and are named by the key of the collection
    and the field. Safe for threads.

    Parameters
    ----------
    max_bytes : int
        Largest memory of all columns together. Those of one query may take about as much again
        while they are read.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        """Memory that the columns occupy."""
        self._open: set[int] = set()
        self._columns: OrderedDict[tuple[int, Field], Column] = OrderedDict()
        self._lock = Lock()
        # Reading payloads takes Python's lock most of the time. Two threads that do it take as long
        # as one after the other, and all other queries would wait for both.
        self.reading = Lock()
        """To be held while many payloads are read."""

    def open(self, key: int) -> None:
        """Keep columns of a collection from now on."""
        with self._lock:
            self._open.add(key)

    def close(self, key: int) -> None:
        """Drop all columns of a collection, and keep none of those that come later."""
        with self._lock:
            self._open.discard(key)
            for name in [name for name in self._columns if name[0] == key]:
                self._drop(name)

    def get(self, key: int, field: Field) -> Column | None:
        """Return a column, which counts as a use of it; None if there is none."""
        name = key, field
        with self._lock:
            if name in self._columns:
                self._columns.move_to_end(name)
            return self._columns.get(name)

    def put(self, key: int, field: Field, column: Column) -> None:
        """Keep a column in place of an earlier one, and drop others if there is no room."""
        name, nbytes = (key, field), column.nbytes
        with self._lock:
            if name in self._columns:
                self._drop(name)
            if key not in self._open or nbytes > self.max_bytes:
                return
            self._columns[name] = column
            self.nbytes += nbytes
            while self.nbytes > self.max_bytes:
                self._drop(next(iter(self._columns)))

    def _drop(self, name: tuple[int, Field]) -> None:
        self.nbytes -= self._columns.pop(name).nbytes
