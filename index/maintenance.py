"""Background work: join parts, rebuild tables, delete dropped collections, shrink the file."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Condition, Event, Thread
from time import monotonic
from weakref import ref

from index.callbacks import Checkpoint
from index.errors import Closed
from index.memory.trim import give_back
from index.state import State
from index.storage import catalog, shrink
from index.storage.database import Database

# The share of one core's time that the work takes, once no task waits.
_SHARE = 0.25
# Seconds that `close` waits for the work to stop. The service has ten to stop in all.
_PATIENCE = 1.0
# Writes wait for each transaction that deletes items of a dropped collection. The number of rows
# starts here, and is then adapted so that a transaction takes about this many seconds.
_ROWS_AT_FIRST = 256
_DELETING_SECONDS = 0.02
# The same for transactions that cut free pages off the file.
_PAGES_AT_FIRST = 64
_SHRINKING_SECONDS = 0.02

log = logging.getLogger("bitcell")


class _Stopping(Exception):
    """Maintenance is being closed."""


class Maintenance:
    """One thread that maintains the collections of a database, and pauses after its work."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[str, Callable[[], None]] | None] = SimpleQueue()
        # Names of the tasks that wait, and the number of those that wait or run.
        self._waiting: set[str] = set()
        self._open_tasks = 0
        # Collections whose items could not be deleted, as on a full disk.
        self._undeleted: dict[int, Database] = {}
        self._changed = Condition()
        self._closed = Event()
        # The thread holds only a weak reference, so that an object that is not closed can be freed.
        self._thread = Thread(target=_run, args=(ref(self), self._queue), daemon=True)
        self._thread.name = "maintenance"
        self._thread.start()

    def wake(self, state: State) -> None:
        """Maintain a collection soon."""
        self._add(f"maintain {state.key}", partial(self._maintain, state))
        with self._changed:
            undeleted, self._undeleted = self._undeleted, {}
        for key, database in undeleted.items():
            self.delete(database, key)

    def _maintain(self, state: State) -> None:
        maintain(state, self.checkpoint)
        self.shrink(state.database)

    def shrink(self, database: Database) -> None:
        """Return free pages of the file to the file system soon, if there are many."""
        self._add("shrink", partial(self._shrink, database))

    def _shrink(self, database: Database) -> None:
        with database.reading() as connection:
            due = shrink.is_due(connection)
        if due:
            self._shrink_some(database, _PAGES_AT_FIRST)

    def _shrink_some(self, database: Database, limit: int) -> None:
        start = monotonic()
        more = database.shrink(limit)
        if more:
            limit = self._next_limit(limit, monotonic() - start, _SHRINKING_SECONDS)
            self._add("shrink some", partial(self._shrink_some, database, limit))

    def _next_limit(self, limit: int, seconds: float, aim: float) -> int:
        """Let writers have their turn, and return how much to do in the next transaction."""
        # Locks are not fair: without a pause, writers would hardly get their turn.
        self._closed.wait(seconds)
        return 2 * limit if seconds < aim else max(1, limit // 2)

    def delete(self, database: Database, key: int) -> None:
        """Hide a collection and delete its items, a few at a time so that writes wait little."""
        self._add(f"delete {key}", partial(self._delete_some, database, key, _ROWS_AT_FIRST))

    def _delete_some(self, database: Database, key: int, limit: int) -> None:
        start = monotonic()
        try:
            with database.transaction() as connection:
                # Before any of its items is deleted: a crash must not leave a part of them visible.
                catalog.hide(connection, key)
                more = catalog.delete_some(connection, key, limit)
        except BaseException:
            with self._changed:
                self._undeleted[key] = database
            raise
        seconds = monotonic() - start
        if more:
            limit = self._next_limit(limit, seconds, _DELETING_SECONDS)
            self._add(f"delete {key}", partial(self._delete_some, database, key, limit))
        else:
            give_back()
            self.shrink(database)

    def _add(self, name: str, task: Callable[[], None]) -> None:
        with self._changed:
            if name not in self._waiting:
                self._waiting.add(name)
                self._open_tasks += 1
                self._queue.put((name, task))

    def settle(self) -> None:
        """Wait until there is nothing left to do."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open_tasks or self._closed.is_set())

    def close(self) -> None:
        """Stop, and wait at most a second for that; a second call does nothing.

        The next start does what is left to do.
        """
        self._closed.set()
        self._queue.put(None)
        with self._changed:
            self._changed.notify_all()
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            log.warning("maintenance did not stop within %s s and is left behind", _PATIENCE)

    def checkpoint(self) -> None:
        """Raise if maintenance is being closed: called between the steps of long work."""
        if self._closed.is_set():
            raise _Stopping

    def run(self, name: str, task: Callable[[], None]) -> None:
        """Run a task; if no other task waits, then pause for the other share of the time."""
        start = monotonic()
        with self._changed:
            self._waiting.discard(name)
        try:
            self.checkpoint()
            task()
        except _Stopping:
            pass
        except Exception as error:
            # Nothing is lost: answers stay exact, and the next write or start tries again.
            if not (isinstance(error, Closed) and self._closed.is_set()):
                log.exception("maintenance failed: %s", name)
        finally:
            with self._changed:
                self._open_tasks -= 1
                self._changed.notify_all()
        if self._queue.empty():
            self._closed.wait((monotonic() - start) * (1 / _SHARE - 1))


def maintain(state: State, checkpoint: Checkpoint = lambda: None) -> None:
    """Keep searches and starts fast: join parts of the record, rebuild the tables when due."""
    while _join_parts(state):
        checkpoint()
    if state.removed is None and state.rows.is_segment_due:
        state.rows.build_segment(state.database.exclusive(), checkpoint)
        give_back()


def _join_parts(state: State) -> bool:
    done: list[Callable[[], None]] = []

    def work(connection: sqlite3.Connection) -> None:
        oldest = state.rows.oldest()
        places = None if state.removed else state.record.next_rewrite(oldest)
        if places is not None:
            done.append(state.record.rewrite(connection, *places, oldest))

    def publish() -> None:
        for apply in done:
            apply()

    # Alone, since it does not see what other writes stage in the same transaction.
    with state.database.exclusive():
        state.database.write(work, publish, lambda: None)
    return bool(done)


def _run(
    maintenance: ref[Maintenance], queue: SimpleQueue[tuple[str, Callable[[], None]] | None]
) -> None:
    while (item := queue.get()) is not None:
        if (alive := maintenance()) is not None:
            alive.run(*item)
            del alive
        del item
