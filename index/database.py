"""The record on disk: one SQLite file, in which every acknowledged write is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from index.errors import Unreadable

VERSION = 1


class Database:
    """A SQLite file for one process and any of its threads.

    Write-ahead log, synced at every commit: what `transaction` has left is there after a crash
    of the process or the machine. The file is locked, so that no second process serves it.

    Raises
    ------
    Unreadable
        The file is in use, no database, or of a newer version; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=0
            )
        except (OSError, sqlite3.OperationalError) as error:
            raise Unreadable(f"{path.parent} cannot hold the data: {error}") from None
        try:
            self._prepare()
        except sqlite3.OperationalError as error:
            self.close()
            raise Unreadable(
                f"{path} cannot be opened, is another process using it? {error}"
            ) from None
        except sqlite3.DatabaseError as error:
            self.close()
            raise Unreadable(f"{path} is damaged: {error}; restore it from a copy") from None
        except Unreadable:
            self.close()
            raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA foreign_keys = ON")
        (version,) = execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise Unreadable(
                f"{self.path} has version {version}; the newest known here is {VERSION}"
            )
        # A write takes the lock now rather than at the first request.
        execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing of it; on return it is on disk."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._connection.close()
