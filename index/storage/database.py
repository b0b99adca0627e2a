"""The record on disk: one SQLite file, in which every acknowledged write is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, RLock
from typing import Any, Generic, TypeVar, cast

from index.errors import Full, InUse, Unreadable

VERSION = 2
# Readers keep a page cache each.
_READERS = 4

T = TypeVar("T")


class _Write(Generic[T]):
    """A write that waits to be committed, or has been."""

    def __init__(
        self,
        work: Callable[[sqlite3.Connection], T],
        publish: Callable[[], object],
        undo: Callable[[], object],
    ) -> None:
        self.work, self.publish, self.undo = work, publish, undo
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None


class Database:
    """A SQLite file for one process and any of its threads.

    Write-ahead log, synced at every commit: what `transaction` or `write` has left is there after
    a crash of the process or the machine. Writes that wait for one another are committed together.
    Reads have connections of their own and wait for no write. A second process is kept out by a
    lock on a file beside it, `<name>.lock`.

    Raises
    ------
    Unreadable
        The file is no database or of a newer version, or `InUse`; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = RLock()
        self._waiting: list[_Write[Any]] = []
        self._queue_lock = Lock()
        self._alone = False
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._opened: list[sqlite3.Connection] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._owner = self._open(path.with_name(path.name + ".lock"))
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise Unreadable(f"{path.parent} cannot hold the data: {error}") from None
        try:
            # SQLite's own lock on an empty file: gone with the process, on every system.
            self._owner.execute("BEGIN EXCLUSIVE")
            self._connection = self._open(path)
            self._prepare()
            for _ in range(_READERS):
                self._readers.put(self._open(path))
        except sqlite3.OperationalError as error:
            self.close()
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise InUse(f"{path} is in use by another process") from None
            raise Unreadable(f"{path} cannot be opened: {error}") from None
        except sqlite3.DatabaseError as error:
            self.close()
            raise self.damaged(error) from None
        except Unreadable:
            self.close()
            raise

    def _open(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        self._opened.append(connection)
        return connection

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA foreign_keys = ON")
        (self.version,) = execute("PRAGMA user_version").fetchone()
        if self.version > VERSION:
            raise Unreadable(
                f"{self.path} has version {self.version}; the newest known here is {VERSION}"
            )
        (tables,) = execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not tables:
            self.version = VERSION
            execute(f"PRAGMA user_version = {VERSION}")

    def damaged(self, what: object) -> Unreadable:
        """The error that says so, and what to do."""
        return Unreadable(f"{self.path} is damaged: {what}; restore it from a copy or a snapshot")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing of it; on return it is on disk.

        Raises
        ------
        Full
            There is no room on the disk.
        """
        with self._lock, self._full_is_said():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        publish: Callable[[], object],
        undo: Callable[[], object],
    ) -> T:
        """Let `work` write, on disk on return; what comes meanwhile from other threads joins in.

        Parameters
        ----------
        work : callable
            Given the connection, in a transaction that others may share. What it raises takes back
            its own writes only. It ends with whatever it stages in memory.
        publish, undo : callables
            One of the two is called if `work` returned: when it is on disk, or when it cannot be.

        Raises
        ------
        Full
            There is no room on the disk.
        """
        mine = _Write(work, publish, undo)
        with self._queue_lock:
            self._waiting.append(mine)
        with self._lock:
            if not mine.done:
                with self._queue_lock:
                    together = [mine] if self._alone else self._waiting
                    self._waiting = [one for one in self._waiting if one not in together]
                self._commit(together)
        if mine.error is not None:
            raise mine.error
        return cast(T, mine.result)

    def _commit(self, together: list[_Write[Any]]) -> None:
        good: list[_Write[Any]] = []
        try:
            with self.transaction() as connection:
                for one in together:
                    try:
                        connection.execute("SAVEPOINT one")
                        one.result = one.work(connection)
                        good.append(one)
                        connection.execute("RELEASE one")
                    except Exception as error:
                        # With the disk full SQLite may have taken back all of it.
                        if one in good or not connection.in_transaction:
                            raise
                        connection.execute("ROLLBACK TO one")
                        connection.execute("RELEASE one")
                        one.error = error
        except BaseException as error:
            for one in reversed(good):
                one.undo()
            for one in together:
                one.error = one.error or error
            if not isinstance(error, Exception):
                raise
        else:
            for one in good:
                one.publish()
        finally:
            for one in together:
                one.done = True

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    @contextmanager
    def _full_is_said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise Full(
                    f"{self.path} could not be written: {error}; nothing of this write was kept, "
                    "and the next is taken as soon as there is room"
                ) from error
            raise

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Nobody else writes meanwhile."""
        with self._lock:
            before, self._alone = self._alone, True
            try:
                yield
            finally:
                self._alone = before

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read from; it waits for no write."""
        connection = self._readers.get()
        try:
            yield connection
        finally:
            self._readers.put(connection)

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self.reading() as connection:
            return connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            for connection in self._opened[::-1]:
                connection.close()
