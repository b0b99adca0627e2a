"""One SQLite file that holds every acknowledged write."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, RLock
from time import monotonic
from typing import Any, Generic, TypeVar, cast

from index.errors import Closed, Damaged, DiskError, Full, IndexProblem, InUse, Unreadable
from index.storage import shrink

VERSION = 4
# Each reading connection has a page cache of its own.
_READERS = 4
# SQLite reports a full disk as one of these in some cases. They count as such if less room is left.
_WRITE_ERRORS = (
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
)
_LEAST_ROOM = 1 << 20
# How long `close` waits for reads to end, and how often it interrupts them.
_CLOSING_SECONDS = 2.0
_INTERRUPT_SECONDS = 0.05

log = logging.getLogger("bitcell")

T = TypeVar("T")


class _Write(Generic[T]):
    """A write that waits to be committed, or its outcome."""

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

    The write-ahead log is synced at every commit: what `transaction` or `write` has committed
    survives a crash of the process or the machine. Writes that wait for one another are committed
    together. Reads use connections of their own and wait for no write. A lock on the file
    `<name>.lock`, in the same folder, keeps other processes out.

    Every method raises `Closed` after `close`, `Damaged` where SQLite finds the file damaged, and
    `DiskError` where the system cannot read or write it.

    Attributes
    ----------
    fault : str, optional
        The first damage that was found, in words; None while there is none. Only a restart with
        a sound file clears it.

    Raises
    ------
    Unreadable
        The file cannot be opened or is of a newer version; `Damaged` if it is damaged; `InUse` if
        another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault: str | None = None
        self._lock = RLock()
        self._waiting: list[_Write[Any]] = []
        self._queue_lock = Lock()
        self._alone = False
        self._closed = False
        self._readers: SimpleQueue[sqlite3.Connection | None] = SimpleQueue()
        """Idle connections to read from; None, once the file is closed."""
        self._lendable: list[sqlite3.Connection] = []
        self._opened: list[sqlite3.Connection] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._owner = self._open(path.with_name(path.name + ".lock"))
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise Unreadable(f"{path.parent} cannot hold the data: {error}") from None
        try:
            # SQLite's own lock on an empty file: every system releases it when the process ends.
            self._owner.execute("BEGIN EXCLUSIVE")
            self._connection = self._open(path)
            self._prepare()
            for _ in range(_READERS):
                reader = self._open(path)
                # The first read opens the log: later there may be no file descriptor for it.
                reader.execute("SELECT 1 FROM sqlite_schema").fetchone()
                self._readers.put(reader)
                self._lendable.append(reader)
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
        shrink.choose_mode(self._connection)
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA foreign_keys = ON")
        (self.version,) = execute("PRAGMA user_version").fetchone()
        if self.version > VERSION:
            raise Unreadable(
                f"{self.path} has version {self.version}; the newest known here is {VERSION}"
            )
        (tables,) = execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and not self.version:
            raise Unreadable(f"{self.path} is a database of another program, not of Bitcell")
        if not tables:
            self.version = VERSION
            execute(f"PRAGMA user_version = {VERSION}")
        shrink.rewrite_old(self._connection, self.path)

    def damaged(self, what: object) -> Damaged:
        """Return the error to raise for damage that was found, and remember it as `fault`."""
        message = f"{self.path} is damaged: {what}; restore it from a copy or a snapshot"
        self.fault = self.fault or message
        return Damaged(message)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit all that the block writes, or nothing if it raises.

        Raises
        ------
        Full
            The disk has no room.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    self._roll_back()
                    raise
            except sqlite3.Error as error:
                if (explained := self._explained(error)) is None:
                    raise
                raise explained from error

    def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        publish: Callable[[], object],
        undo: Callable[[], object],
    ) -> T:
        """Call `work` in a transaction and return its result once that is on disk.

        Writes of other threads that wait at the same time share the transaction.

        Parameters
        ----------
        work : callable
            Takes the connection. If it raises, only its own writes are rolled back. The last thing
            it does is to stage what it changes in memory.
        publish, undo : callables
            If `work` returned, one of the two is called: `publish` when its writes are on disk,
            `undo` when they cannot be.

        Raises
        ------
        Full
            The disk has no room.
        """
        mine = _Write(work, publish, undo)
        with self._queue_lock:
            self._waiting.append(mine)
        with self._lock:
            if not mine.done:
                with self._queue_lock:
                    together = [mine] if self._alone else self._waiting
                    self._waiting = [write for write in self._waiting if write not in together]
                self._commit(together)
        if mine.error is not None:
            raise mine.error
        return cast(T, mine.result)

    def _commit(self, together: list[_Write[Any]]) -> None:
        worked: list[_Write[Any]] = []
        try:
            with self.transaction() as connection:
                for write in together:
                    try:
                        connection.execute("SAVEPOINT one")
                        write.result = write.work(connection)
                        worked.append(write)
                        connection.execute("RELEASE one")
                    except Exception as error:
                        # On some errors, such as a full disk, SQLite rolls back everything itself.
                        if write in worked or not connection.in_transaction:
                            raise
                        connection.execute("ROLLBACK TO one")
                        connection.execute("RELEASE one")
                        write.error = self._explained(error) or error
        except BaseException as error:
            for write in reversed(worked):
                write.undo()
            for write in together:
                write.error = write.error or error
            if not isinstance(error, Exception):
                raise
        else:
            for write in worked:
                write.publish()
        finally:
            for write in together:
                write.done = True

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _explained(self, error: Exception) -> IndexProblem | None:
        """Return the error of the index that an error of SQLite means; None for any other."""
        if not isinstance(error, sqlite3.Error):
            return None
        if self._closed:
            return Closed(f"{self.path} has been closed")
        # Errors that the sqlite3 module itself raises have no code.
        extended = getattr(error, "sqlite_errorcode", -1)
        code = extended & 0xFF
        if code == sqlite3.SQLITE_FULL or (extended in _WRITE_ERRORS and self._has_no_room()):
            return Full(
                f"{self.path} could not be written: {error}; nothing of this write was kept, "
                "and writes succeed again as soon as there is room"
            )
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self.damaged(error)
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            return DiskError(f"{self.path} could not be read or written: {error}")
        if str(error).startswith(("no such column", "no such table")):
            return self.damaged(error)
        return None

    def _has_no_room(self) -> bool:
        try:
            return shutil.disk_usage(self.path.parent).free < _LEAST_ROOM
        except OSError:
            return False

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep all other writers out during the block."""
        with self._lock:
            before, self._alone = self._alone, True
            try:
                yield
            finally:
                self._alone = before

    def shrink(self, pages: int) -> bool:
        """Return up to `pages` free pages to the file system, and whether there are more."""
        with self.transaction() as connection:
            more = shrink.cut_some(connection, pages)
        if not more:
            with self._lock:
                shrink.empty_log(self._connection)
        return more

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection to read from, which waits for no write."""
        connection = self._readers.get()
        if connection is None:
            self._readers.put(None)
            raise Closed(f"{self.path} has been closed")
        try:
            yield connection
        except sqlite3.Error as error:
            if (explained := self._explained(error)) is None:
                raise
            raise explained from error
        finally:
            self._readers.put(connection)

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self.reading() as connection:
            return connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close the file. A second call does nothing.

        Reads of other threads are interrupted: they raise Closed. A connection that a thread does
        not give back soon stays open, because SQLite crashes if one is closed while it is used.
        """
        with self._lock:
            self._closed = True
            lent = self._take_back()
            for connection in self._opened[::-1]:
                if connection not in lent:
                    connection.close()
            self._opened = []
            self._readers.put(None)

    def _take_back(self) -> list[sqlite3.Connection]:
        """Interrupt all reads; return the connections that are still lent after some time."""
        lent, self._lendable = self._lendable, []
        deadline = monotonic() + _CLOSING_SECONDS
        while lent and monotonic() < deadline:
            for connection in lent:
                connection.interrupt()  # Has no effect between two statements: hence again.
            with suppress(Empty):
                given_back = self._readers.get(timeout=_INTERRUPT_SECONDS)
                lent = [connection for connection in lent if connection is not given_back]
        if lent:
            log.warning("%s is closed although %s reads have not ended", self.path, len(lent))
        return lent
