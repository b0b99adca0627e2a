"""Work in the background: flush what was written, delete what was dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any
from weakref import ref

from index.errors import IndexProblem, NotFound
from index.milvus.catalog import Catalog, Row
from index.milvus.server.connection import Connection
from index.milvus.server.physical import Physical
from index.milvus.writes import Writes

# Seconds between flushes, each of which makes a segment in Milvus, unless this many bytes were
# written.
_PAUSE = 30.0
_ENOUGH = 64 << 20
_FLUSH_TIMEOUT = 60.0
# Seconds that `close` waits.
_PATIENCE = 1.0

log = logging.getLogger("bitcell")


class Upkeep:
    """One thread for the collections of a store. What fails is tried again after a pause.

    `writes` returns the writes of a collection, None if another process is making it.
    """

    def __init__(
        self,
        catalog: Catalog,
        connection: Connection,
        writes: Callable[[Row], Writes | None],
    ) -> None:
        self._catalog, self._connection, self._writes = catalog, connection, writes
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
        """Do now what there is to do; then raise the first error, if something failed."""
        for error in self._do():
            raise error

    def close(self) -> None:
        """Stop, and wait at most a second for that."""
        self._closed.set()
        self._wake.set()
        self._thread.join(_PATIENCE)

    def run(self) -> None:
        """Do what there is to do; log what fails."""
        errors = self._do()
        if not errors or self._closed.is_set():
            return
        log.warning(
            "upkeep of the index in Milvus failed %d times, and is tried again: %s",
            len(errors),
            errors[0],
        )
        for error in errors:
            if not isinstance(error, IndexProblem):
                log.error("upkeep of the index in Milvus failed", exc_info=error)

    def _do(self) -> list[Exception]:
        """Do what there is to do, each on its own; return the errors."""
        errors: list[Exception] = []

        def attempt(work: Callable[..., Any], *of: Any) -> Any:
            try:
                return None if self._closed.is_set() else work(*of)
            except Exception as error:  # noqa: BLE001 - callers raise or log it.
                errors.append(error)

        with self._working:
            for row in attempt(self._catalog.abandoned) or []:
                attempt(self._catalog.abandon, row.key)
            for name in attempt(self._catalog.to_drop) or []:
                attempt(self._drop, name)
            for key, until in (attempt(self._catalog.to_flush) or {}).items():
                attempt(self._flush, key, until)
        return errors

    def _drop(self, name: str) -> None:
        Physical(self._connection, name, 8).drop()
        self._catalog.is_dropped(name)

    def _flush(self, key: int, until: int) -> None:
        row = self._catalog.read(key)
        writes = None if row is None else self._writes(row)
        if row is None or writes is None:
            return
        losses = self._connection.losses
        try:
            # What Milvus lost is not there to be flushed before it is repeated.
            writes.ready()
        except NotFound:
            return
        Physical(self._connection, row.physical, row.n_bits).flush(_FLUSH_TIMEOUT)
        if self._connection.losses == losses:
            self._catalog.forget_writes(key, until)


def _run(upkeep: ref[Upkeep], wake: Event, closed: Event) -> None:
    while not closed.is_set():
        wake.wait(_PAUSE)
        wake.clear()
        if closed.is_set() or (alive := upkeep()) is None:
            return
        alive.run()
        del alive
