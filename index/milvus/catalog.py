"""What the database holds of the collections in Milvus: one transaction a method."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, delete, func, insert, or_, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from index.errors import AlreadyExists, Unavailable
from index.milvus.tables import collections, dropped, patches, redo
from index.storage.catalog import DescriptorType
from index.types import Patch

# PostgreSQL knows a lock by one number, which starts with this one in those of collections.
_LOCKS = 0x6263 << 40


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


class Catalog:
    """The collections and what is left to do for them. Safe for threads and, on PostgreSQL, shared.

    Every method raises Unavailable if the database cannot be reached.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_shared = engine.dialect.name == "postgresql"
        self._lock = Lock()
        self._locks: dict[int, Lock] = {}
        self._made: set[int] = set()

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except (DBAPIError, NoConnection) as error:
            raise _unavailable(error) from error

    @contextmanager
    def holding(self, key: int, timeout: float) -> Iterator[None]:
        """Hold the lock of a collection, which one writer has at a time, of all replicas."""
        with self._lock:
            lock = self._locks.setdefault(key, Lock())
        # Also on PostgreSQL, so that only one writer of a process waits with a connection.
        if not lock.acquire(timeout=timeout):
            raise Unavailable(f"other writes to the collection have not ended in {timeout:g} s")
        try:
            if not self._is_shared:
                yield
                return
            with self._holding_shared(key, timeout):
                yield
        finally:
            lock.release()

    @contextmanager
    def _holding_shared(self, key: int, timeout: float) -> Iterator[None]:
        with self._engine.connect() as connection:
            try:
                wait = max(1, round(1000 * timeout))
                connection.execute(text(f"SET LOCAL lock_timeout = {wait}"))
                # Nothing but the lock is in this transaction, which lasts as long as the write.
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                connection.execute(select(func.pg_advisory_xact_lock(_LOCKS | key)))
            except (DBAPIError, NoConnection) as error:
                raise Unavailable(
                    f"other writes to the collection have not ended in {timeout:g} s, or the "
                    f"database cannot be reached: {getattr(error, 'orig', error)}"
                ) from error
            # The lock ends with the transaction, also where the process dies.
            yield

    @contextmanager
    def inserted(self, **values: Any) -> Iterator[Row]:
        """Add a collection that is made during the block, and is abandoned if this process ends.

        Raise AlreadyExists if its name is taken or being taken. With `replaces` it is one that will
        replace the collection of this key.
        """
        if not self._is_shared:
            with self._lock:
                with self._begin() as connection:
                    row = _insert(connection, values)
                self._made.add(row.key)
            try:
                yield row
            finally:
                with self._lock:
                    self._made.discard(row.key)
            return
        with self._engine.connect() as connection:
            try:
                row = _insert(connection, values)
                # Of the session: the row can be seen only when this lock is held.
                connection.execute(select(func.pg_advisory_lock(-(_LOCKS | row.key))))
                connection.commit()
            except (OperationalError, NoConnection) as error:
                raise _unavailable(error) from error
            try:
                yield row
            finally:
                # Closes the session, which ends the lock, and does not fail where it is closed.
                connection.invalidate()

    def read(self, key: int) -> Row | None:
        """Return a collection, finished or not."""
        return self._one(collections.c.key == key)

    def named(self, name: str) -> Row | None:
        """Return the finished collection of a name."""
        return self._one(collections.c.name == name)

    def _one(self, condition: Any) -> Row | None:
        with self._begin() as connection:
            row = connection.execute(select(collections).where(condition)).one_or_none()
        return None if row is None else Row(*row)

    def finished(self) -> list[Row]:
        """Return all finished collections, by name."""
        chosen = select(collections).where(collections.c.name.is_not(None))
        with self._begin() as connection:
            rows = connection.execute(chosen.order_by(collections.c.name)).all()
        return sorted((Row(*row) for row in rows), key=lambda row: row.name or "")

    def use_generation(self, key: int, generation: int) -> Row:
        """Give a collection that is being made another name in Milvus."""
        self._update(key, generation=generation)
        with self._begin() as connection:
            return Row(
                *connection.execute(select(collections).where(collections.c.key == key)).one()
            )

    def _update(self, key: int, **values: Any) -> None:
        with self._begin() as connection:
            connection.execute(update(collections).where(collections.c.key == key).values(**values))

    def finish(self, key: int, name: str) -> None:
        """Show a collection that is complete by its name; raise AlreadyExists if it is taken."""
        try:
            self._update(key, name=name, making=None)
        except IntegrityError:
            raise AlreadyExists(f"there is already a collection {name!r}") from None

    def remove(self, row: Row) -> bool:
        """Delete a collection, and note that it is to be deleted in Milvus; False if none was."""
        with self._begin() as connection:
            return _remove(connection, row)

    def switch(self, old: Row, new: int) -> bool:
        """Replace a finished collection by the one that was made for that; False if it is gone."""
        with self._begin() as connection:
            if not _remove(connection, old):
                return False
            connection.execute(
                update(collections)
                .where(collections.c.key == new)
                .values(name=old.name, replaces=None, follows_patches=old.follows_patches)
            )
        return True

    def continue_serials(self, key: int, old: Row) -> None:
        """Let a copy count on where the original is."""
        self._update(key, next_serial=old.next_serial, written=old.next_serial)

    def abandoned(self) -> list[Row]:
        """Return the collections that nobody makes any more."""
        unfinished = select(collections).where(collections.c.name.is_(None))
        with self._lock, self._begin() as connection:
            rows = [Row(*row) for row in connection.execute(unfinished)]
            if not self._is_shared:
                return [row for row in rows if row.key not in self._made]
            return [
                row
                for row in rows
                if connection.execute(
                    select(func.pg_try_advisory_xact_lock(-(_LOCKS | row.key)))
                ).scalar_one()
            ]

    def to_drop(self) -> list[str]:
        """Return the names in Milvus of collections that are still to be deleted there."""
        with self._begin() as connection:
            return list(connection.execute(select(dropped.c.physical)).scalars())

    def is_dropped(self, physical: str) -> None:
        """Note that Milvus has deleted a collection."""
        with self._begin() as connection:
            connection.execute(delete(dropped).where(dropped.c.physical == physical))

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

        `patch` are the serial numbers of items that a patch writes again.
        """
        with self._begin() as connection:
            changed = connection.execute(
                update(collections)
                .where(collections.c.key == row.key)
                .values(next_serial=row.next_serial + n_serials, **values)
            )
            if not changed.rowcount:
                return None
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
        """Note that Milvus has confirmed all writes up to a number."""
        with self._begin() as connection:
            connection.execute(
                update(redo)
                .where(redo.c.collection == key, redo.c.id <= until, redo.c.applied.is_(False))
                .values(applied=True)
            )
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

    def discard(self, number: int) -> None:
        """Forget a write that Milvus refuses."""
        with self._begin() as connection:
            connection.execute(delete(redo).where(redo.c.id == number))

    def is_broken(self, key: int) -> None:
        """Let nobody read a collection until its writes are repeated."""
        self._update(key, broken=True)

    def has_unconfirmed(self, key: int) -> bool:
        """Return whether Milvus has not confirmed all writes."""
        chosen = select(redo.c.id).where(redo.c.collection == key, redo.c.applied.is_(False))
        with self._begin() as connection:
            return connection.execute(chosen.limit(1)).first() is not None

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


def _unavailable(error: Exception) -> Unavailable:
    why = getattr(error, "orig", None) or error
    return Unavailable(f"the database of the index cannot be used: {why}")


def _insert(connection: Connection, values: dict[str, Any]) -> Row:
    name = values.get("making")
    taken = select(collections.c.key).where(collections.c.name == name)
    if name is not None and connection.execute(taken).first() is not None:
        raise AlreadyExists(f"there is already a collection {name!r}")
    try:
        result = connection.execute(insert(collections).values(**values))
    except IntegrityError:
        if name is None:
            raise AlreadyExists("the collection is already being re-encoded") from None
        raise AlreadyExists(f"a collection {name!r} is already being made") from None
    (key,) = result.inserted_primary_key or (0,)
    return Row(*connection.execute(select(collections).where(collections.c.key == key)).one())


def _remove(connection: Connection, row: Row) -> bool:
    removed = connection.execute(delete(collections).where(collections.c.key == row.key))
    if not removed.rowcount:
        return False
    connection.execute(delete(redo).where(redo.c.collection == row.key))
    connection.execute(delete(patches).where(patches.c.collection == row.key))
    connection.execute(insert(dropped).values(physical=row.physical))
    return True
