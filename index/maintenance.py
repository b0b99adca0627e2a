"""What is done in the background: tables built anew, parts of the record joined."""

from __future__ import annotations

import logging
from queue import SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING
from weakref import ref

if TYPE_CHECKING:
    from index.collection import Collection

# Of the time of a core, the share that it takes at most.
_SHARE = 0.25

log = logging.getLogger("bitcell")


class Maintenance:
    """One thread that keeps collections fit; it takes a share of the time only."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Collection | Event | None] = SimpleQueue()
        self._waiting: set[int] = set()
        self._lock = Lock()
        self._closed = Event()
        # The thread does not keep alive what nobody closed.
        self._thread = Thread(target=_run, args=(ref(self), self._queue), daemon=True)
        self._thread.name = "maintenance"
        self._thread.start()

    def wake(self, collection: Collection) -> None:
        """Look at a collection some time soon."""
        with self._lock:
            if collection.key not in self._waiting:
                self._waiting.add(collection.key)
                self._queue.put(collection)

    def settle(self) -> None:
        """Wait until all that is asked for so far is done."""
        for _ in range(2):
            done = Event()
            self._queue.put(done)
            done.wait()

    def close(self) -> None:
        """Stop; a second call does nothing."""
        self._closed.set()
        self._queue.put(None)
        self._thread.join()

    def look(self, collection: Collection) -> None:
        """Do what there is to do for a collection."""
        with self._lock:
            self._waiting.discard(collection.key)
        if self._closed.is_set():
            return
        start = monotonic()
        try:
            collection.maintain()
        except Exception:
            # Nothing is lost by it: answers stay exact, and the next write comes back to it.
            log.exception("collection %r could not be kept fit", collection.name)
        if self._queue.empty():
            self._closed.wait((monotonic() - start) * (1 / _SHARE - 1))


def _run(maintenance: ref[Maintenance], queue: SimpleQueue[Collection | Event | None]) -> None:
    while (item := queue.get()) is not None:
        if isinstance(item, Event):
            item.set()
        elif (there := maintenance()) is not None:
            there.look(item)
            del there
        del item
