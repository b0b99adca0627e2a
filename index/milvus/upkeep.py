"""Work in the background: flush what was written, delete what was dropped."""

from __future__ import annotations

import logging
from threading import Event, Lock, Thread
from weakref import ref

from index.errors import IndexProblem
from index.milvus.catalog import Catalog
from index.milvus.server.connection import Connection
from index.milvus.server.physical import Physical

# Seconds between flushes, each of which makes a segment in Milvus, unless this many bytes were
# written.
_PAUSE = 30.0
_ENOUGH = 64 << 20
_FLUSH_TIMEOUT = 60.0
# Seconds that `close` waits.
_PATIENCE = 1.0

log = logging.getLogger("bitcell")


class Upkeep:
    """One thread for the collections of a store. What fails is tried again after a pause."""

    def __init__(self, catalog: Catalog, connection: Connection) -> None:
        self._catalog, self._connection = catalog, connection
        self._wake, self._closed = Event(), Event()
        self._written, self._lock = 0, Lock()
        # One at a time, of the thread and of `settle`.
        self._working = Lock()
        # The thread holds only a weak reference, so that a store that is not closed can be freed.
        self._thread = Thread(
            target=_run, args=(ref(self), self._wake, self._closed), daemon=True, name="upkeep"
        )
        self._thread.start()

    def note(self, n_bytes: int) -> None:
        """Count what was written, and flush soon if it is much."""
        with self._lock:
            self._written += n_bytes
            if self._written < _ENOUGH:
                return
            self._written = 0
        self._wake.set()

    def wake(self) -> None:
        """Do soon what there is to do."""
        self._wake.set()

    def settle(self) -> None:
        """Do now what there is to do; raise if that fails."""
        with self._working:
            self._drop()
            self._flush()

    def close(self) -> None:
        """Stop, and wait at most a second for that."""
        self._closed.set()
        self._wake.set()
        self._thread.join(_PATIENCE)

    def run(self) -> None:
        """Do what there is to do; log what fails."""
        try:
            self.settle()
        except IndexProblem as error:
            if not self._closed.is_set():
                log.warning("upkeep of the index in Milvus failed, and is tried again: %s", error)
        except Exception:
            if not self._closed.is_set():
                log.exception("upkeep of the index in Milvus failed")

    def _drop(self) -> None:
        for row in self._catalog.abandoned():
            self._catalog.abandon(row.key)
        for name in self._catalog.to_drop():
            Physical(self._connection, name, 8).drop()
            self._catalog.is_dropped(name)

    def _flush(self) -> None:
        for key, until in self._catalog.to_flush().items():
            row = self._catalog.read(key)
            if row is None or self._closed.is_set():
                continue
            Physical(self._connection, row.physical, row.n_bits).flush(_FLUSH_TIMEOUT)
            self._catalog.forget_writes(key, until)


def _run(upkeep: ref[Upkeep], wake: Event, closed: Event) -> None:
    while not closed.is_set():
        wake.wait(_PAUSE)
        wake.clear()
        if closed.is_set() or (alive := upkeep()) is None:
            return
        alive.run()
        del alive
