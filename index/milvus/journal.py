"""Writes that the database records before Milvus gets them, and patches; a transaction a method."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, delete, func, insert, or_, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoConnection

from index.errors import Full, Unavailable
from index.milvus.tables import collections, patches, redo
from index.storage.catalog import DescriptorType
from index.types import Patch

_DISK_FULL = "53100"

log = logging.getLogger("bitcell")


class Row(NamedTuple):
    """A row of the table of collections, whose columns `tables` describes."""

    key: int
    generation: int
    name: str | None
    making: str | None
    replaces: int | None
    n_bits: int
    encoder: str
    fingerprint: str
    descriptor_type: DescriptorType | None
    dimension: int | None
    next_serial: int
    written: int
    version: int
    stamp: int
    broken: bool
    follows_patches: bool

    @property
    def physical(self) -> str:
        """The name in Milvus."""
        return f"bc_{self.key}_{self.generation}"


class Journal:
    """The recorded writes of all collections. Safe for threads and, on PostgreSQL, shared.

    Every method raises Unavailable if the database cannot be reached, and Full without room.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except (DBAPIError, NoConnection) as error:
            raise problem(error) from error

    def _update(self, key: int, **values: Any) -> None:
        with self._begin() as connection:
            connection.execute(update(collections).where(collections.c.key == key).values(**values))

    def record(
        self,
        row: Row,
        kind: str,
        body: bytes,
        n_serials: int,
        patch: NDArray[Any] | None,
        **values: Any,
    ) -> int | None:
        """Record a write before Milvus gets it; return its number, None if the collection is gone.

        `patch` are the serial numbers of items that a patch writes again. Raise Unavailable if
        another writer has changed the row since it was read: then the lock has been lost.
        """
        is_ours = (collections.c.key == row.key) & (collections.c.next_serial == row.next_serial)
        if patch is not None:
            is_ours &= collections.c.version == row.version
        with self._begin() as connection:
            changed = connection.execute(
                update(collections)
                .where(is_ours)
                .values(next_serial=row.next_serial + n_serials, **values)
            )
            if not changed.rowcount:
                there = select(collections.c.key).where(collections.c.key == row.key)
                if connection.execute(there).first() is None:
                    return None
                raise Unavailable("the lock of the collection was lost: try again")
            result = connection.execute(
                insert(redo).values(collection=row.key, kind=kind, body=body, applied=False)
            )
            if patch is not None and row.follows_patches:
                old = patch.astype("<i8").tobytes()
                connection.execute(
                    insert(patches).values(collection=row.key, first=row.next_serial, old=old)
                )
            (number,) = result.inserted_primary_key or (0,)
            return int(number)

    def confirm(self, key: int, until: int, stamp: int) -> None:
        """Note that Milvus has confirmed all writes up to a number.

        Raise Unavailable instead of Full, which says that nothing was written.
        """
        try:
            self._confirm(key, until, stamp)
        except Full as error:
            raise Unavailable(str(error)) from error

    def _confirm(self, key: int, until: int, stamp: int) -> None:
        with self._begin() as connection:
            # In this order, as where a collection is dropped: two transactions cannot deadlock.
            connection.execute(
                update(collections)
                .where(collections.c.key == key)
                .values(
                    written=collections.c.next_serial,
                    version=collections.c.version + 1,
                    stamp=stamp,
                    broken=False,
                )
            )
            connection.execute(
                update(redo)
                .where(redo.c.collection == key, redo.c.id <= until, redo.c.applied.is_(False))
                .values(applied=True)
            )

    def discard(self, number: int) -> None:
        """Forget a write that Milvus refuses."""
        with self._begin() as connection:
            connection.execute(delete(redo).where(redo.c.id == number))

    def is_broken(self, key: int) -> None:
        """Let nobody read a collection until its writes are repeated."""
        self._update(key, broken=True)

    def has_unconfirmed(self, key: int) -> bool:
        """Return whether Milvus has not confirmed all writes."""
        return self.first_unconfirmed(key) is not None

    def first_unconfirmed(self, key: int) -> int | None:
        """Return the number of the first write that Milvus has not confirmed."""
        chosen = select(redo.c.id).where(redo.c.collection == key, redo.c.applied.is_(False))
        with self._begin() as connection:
            return connection.execute(chosen.order_by(redo.c.id).limit(1)).scalar_one_or_none()

    def writes(self, key: int, after: int = 0) -> list[int]:
        """Return the numbers of the recorded writes that follow one, ascending."""
        chosen = select(redo.c.id).where(redo.c.collection == key, redo.c.id > after)
        with self._begin() as connection:
            return list(connection.execute(chosen.order_by(redo.c.id)).scalars())

    def write(self, number: int) -> tuple[str, bytes] | None:
        """Return what a recorded write is, and its body."""
        with self._begin() as connection:
            row = connection.execute(
                select(redo.c.kind, redo.c.body).where(redo.c.id == number)
            ).one_or_none()
        return None if row is None else (row[0], bytes(row[1]))

    def to_flush(self) -> dict[int, int]:
        """Return, for collections with confirmed writes, up to which number all are confirmed."""
        first = (
            select(redo.c.collection, func.min(redo.c.id).label("first"))
            .where(redo.c.applied.is_(False))
            .group_by(redo.c.collection)
            .subquery()
        )
        chosen = (
            select(redo.c.collection, func.max(redo.c.id))
            .outerjoin(first, first.c.collection == redo.c.collection)
            .where(redo.c.applied, or_(first.c.first.is_(None), redo.c.id < first.c.first))
            .group_by(redo.c.collection)
        )
        with self._begin() as connection:
            return {int(key): int(until) for key, until in connection.execute(chosen)}

    def forget_writes(self, key: int, until: int) -> None:
        """Delete the writes up to a number, which are on Milvus's disks.

        While a collection is re-encoded they say what has changed meanwhile, and stay.
        """
        replaced = select(collections.c.replaces).where(collections.c.replaces == key)
        with self._begin() as connection:
            connection.execute(
                delete(redo).where(redo.c.collection == key, redo.c.id <= until, ~replaced.exists())
            )

    def follow_patches(self, key: int) -> None:
        """Record all patches of a collection from now on."""
        self._update(key, follows_patches=True)

    def patches(self, key: int, since: int) -> list[Patch]:
        """Return the recorded patches whose first new serial number is this one or later."""
        chosen = select(patches.c.first, patches.c.old).where(
            patches.c.collection == key, patches.c.first >= since
        )
        with self._begin() as connection:
            rows = connection.execute(chosen.order_by(patches.c.first)).all()
        return [Patch(first, np.frombuffer(old, "<i8").astype(np.int64)) for first, old in rows]

    def forget_patches(self, key: int, before: int) -> None:
        """Delete the recorded patches whose first new serial number is smaller."""
        with self._begin() as connection:
            connection.execute(
                delete(patches).where(patches.c.collection == key, patches.c.first < before)
            )


def problem(error: Exception) -> Full | Unavailable:
    """Return the error of a database that cannot be used, without what only the operator may see.

    That is logged.
    """
    why = getattr(error, "orig", None) or error
    log.warning("the database of the index cannot be used: %s", str(why).strip())
    sqlite = getattr(why, "sqlite_errorcode", 0) & 0xFF
    if sqlite == sqlite3.SQLITE_FULL or getattr(why, "sqlstate", None) == _DISK_FULL:
        return Full("the disk of the database of the index has no room")
    if sqlite in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable("another write to the database of the index is in the way", 1.0)
    return Unavailable("the database of the index cannot be used: try again later")
