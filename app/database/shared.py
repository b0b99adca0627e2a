"""State in a database that several replicas of the service share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import BoundedSemaphore
from time import monotonic
from typing import Any
from zlib import crc32

import structlog
from sqlalchemy import Column, ColumnElement, Engine, Executable, func, literal, select, text
from sqlalchemy.exc import DBAPIError

from app.database.engine import (
    POOL_SECONDS,
    Unreachable,
    explained,
    first_line,
    has_null,
    shorten_patience,
    unreachable,
)
from app.database.guard import Guard
from app.database.state import Execute
from index import Unavailable

# Of the 64 bits of an advisory lock, those that tell the locks of Bitcell from others.
_NAMESPACE = 0xB17CE11 << 32
# A block under a lock holds a connection, and may need a second one: some must be left for these.
_LOCKED_BLOCKS = 8

# For this long after a call without an answer, others are refused without asking again: those that
# wait for a thread would otherwise each wait for the database as well.
_PAUSE_SECONDS = 1.0

log = structlog.stdlib.get_logger("bitcell")


class SharedState:
    """State behind an SQLAlchemy engine, whose tables `migrate` has made.

    Attributes
    ----------
    engine : Engine
    is_reached : bool
        Whether the last call got an answer.
    guard : Guard or None
        What keeps unlike processes out. While it refuses, every call raises Unavailable.
    """

    shared = True

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # Without a transaction, a query is one message instead of three.
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")
        self.is_reached, self._next_try = True, 0.0
        self.guard: Guard | None = None
        self._blocks = BoundedSemaphore(_LOCKED_BLOCKS)

    @contextmanager
    def writing(self, alone: str = "") -> Iterator[Execute]:
        """Commit all that the block executes, or nothing if it raises."""
        with self._explained():
            # Each replica writes every second, when it looks for jobs.
            if self.guard is not None:
                self.guard.check()
            yield from self._write(alone)

    def _write(self, alone: str) -> Iterator[Execute]:
        with self.engine.begin() as connection:
            if alone and self.engine.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(_number(alone))))
            yield connection.execute

    def read(self, statement: Executable) -> Sequence[Any]:
        """Return all rows of a query."""
        self._require_guard()
        with self._explained(), self._reading.connect() as connection:
            shorten_patience(connection)
            try:
                return connection.execute(statement).fetchall()
            except DBAPIError as error:
                if has_null(error):
                    return []
                raise

    def part(
        self, column: Column[bytes], row: ColumnElement[bool], offset: int, size: int
    ) -> bytes | None:
        """Return up to `size` bytes of a binary value, without reading all of it."""
        found = self.read(
            select(func.substr(column, offset + 1, size)).where(row, column.is_not(None))
        )
        return bytes(found[0][0]) if found else None

    @contextmanager
    def locked(self, name: str, *, share: bool = False) -> Iterator[None]:
        """Keep other blocks with the same name out, in this process and in others.

        Blocks that share keep out only those that do not. Raise Unavailable if that takes long.
        """
        self._require_guard()
        lock = func.pg_advisory_xact_lock_shared if share else func.pg_advisory_xact_lock
        if not self._blocks.acquire(timeout=POOL_SECONDS):
            raise Unavailable("too many requests of this kind are in progress: try again later")
        try:
            if self.engine.dialect.name == "sqlite":  # It is the file of one process.
                yield
                return
            with self._explained(), self.engine.connect() as connection:
                # A block may read a large file before it ends.
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                connection.execute(select(lock(_number(name))))
                yield
        finally:
            self._blocks.release()

    def _require_guard(self) -> None:
        if self.guard is not None:
            self.guard.require()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        if not self.is_reached and monotonic() < self._next_try:
            raise unreachable()
        try:
            with explained():
                yield
        except Unreachable as error:
            if self.is_reached:
                log.warning("the database cannot be reached", error=first_line(error.__cause__))
            self.is_reached, self._next_try = False, monotonic() + _PAUSE_SECONDS
            raise
        if not self.is_reached:
            log.info("the database is reached again")
        self.is_reached = True


def _number(name: str) -> ColumnElement[int]:
    """Return the number of the advisory lock of a name."""
    return literal(_NAMESPACE | crc32(name.encode()))
