"""The interface to the database that holds encoders, jobs and drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Column, ColumnElement, Executable

PART_BYTES = 1 << 23
"""How much `whole` reads at once."""


class Rows(Protocol):
    """What a statement returns."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def fetchall(self) -> Sequence[Any]:
        """Return the rows that it selected."""


Execute = Callable[[Executable], Rows]
"""Executes a statement in a transaction."""


class State(Protocol):
    """A database that executes statements of SQLAlchemy Core. Thread-safe.

    All methods raise `index.Unavailable` if the database is a server that does not answer,
    `index.Full` if there is no room, and `sqlalchemy.exc.IntegrityError` if a row is there already
    or refers to one that is not.

    Attributes
    ----------
    shared : bool
        Whether other processes change it as well.
    """

    shared: bool

    def writing(self, alone: str = "") -> AbstractContextManager[Execute]:
        """Commit all that the block executes, or nothing if it raises.

        Blocks with the same name in `alone` do not run at the same time.
        """

    def read(self, statement: Executable) -> Sequence[Any]:
        """Return all rows of a query."""

    def part(
        self, column: Column[bytes], row: ColumnElement[bool], offset: int, size: int
    ) -> bytes | None:
        """Return up to `size` bytes of a binary value, without reading all of it.

        None if there is no such row, or no value in it.
        """

    def locked(self, name: str, *, share: bool = False) -> AbstractContextManager[None]:
        """Keep other processes out of blocks with the same name; those that share keep no sharers.

        Blocks must be short. A block that shares does not wait for others: it raises Unavailable
        after some seconds. Where no other process uses the database, this does nothing.
        """


def whole(state: State, column: Column[bytes], row: ColumnElement[bool]) -> bytes | None:
    """Return a binary value, read in parts, because a state limits the time of each read.

    None if there is no such row, or no value in it, or if it goes while it is read. The value must
    not be replaced by another one meanwhile.
    """
    parts = list[bytes]()
    while not parts or len(parts[-1]) == PART_BYTES:
        part = state.part(column, row, len(parts) * PART_BYTES, PART_BYTES)
        if part is None:
            return None
        parts.append(part)
    return b"".join(parts)
