"""What the database holds of the collections in Milvus: one transaction a method."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import BoundedSemaphore, Lock
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from index.errors import AlreadyExists, Unavailable
from index.milvus.journal import Journal, Row, problem
from index.milvus.tables import collections, dropped, patches, redo

__all__ = ["INTERRUPTED", "Catalog", "Row"]

# PostgreSQL knows a lock by one number, which starts with this one in those of collections.
_LOCKS = 0x6263 << 40
# Each of these holds a connection and needs a second one meanwhile. With the blocks under a lock of
# the service, they are fewer than the connections that a process opens (`app.database.engine`).
_WRITERS = 6
_MAKERS = 3
_MAKER_SECONDS = 5.0
_LOCK_TIMEOUT = "55P03"
INTERRUPTED = (
    "the collection that was being made has been deleted meanwhile, as the connection to the "
    "database was lost: make it again"
)


class Catalog(Journal):
    """The collections, their locks and their recorded writes, with the promises of `Journal`."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._is_shared = engine.dialect.name == "postgresql"
        self._lock = Lock()
        self._locks: dict[int, Lock] = {}
        self._made: set[int] = set()
        self._writers, self._makers = BoundedSemaphore(_WRITERS), BoundedSemaphore(_MAKERS)

    @contextmanager
    def holding(self, key: int, timeout: float) -> Iterator[None]:
        """Hold the lock of a collection, which one writer has at a time, of all replicas."""
        with self._lock:
            lock = self._locks.setdefault(key, Lock())
        # Also on PostgreSQL, so that only one writer of a process waits with a connection.
        if not lock.acquire(timeout=timeout):
            raise _busy(timeout)
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
        wait = max(1, round(1000 * timeout))
        with _one_of(self._writers, timeout), ExitStack() as held:
            try:
                connection = self._engine.connect()
                held.callback(_release, connection)
                connection.execute(text(f"SET LOCAL lock_timeout = {wait}"))
                # Nothing but the lock is in this transaction, which lasts as long as the write.
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                connection.execute(select(func.pg_advisory_xact_lock(_LOCKS | key)))
            except (DBAPIError, NoConnection) as error:
                if getattr(getattr(error, "orig", None), "sqlstate", None) == _LOCK_TIMEOUT:
                    raise _busy(timeout) from error
                raise problem(error) from error
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
        with _one_of(self._makers, _MAKER_SECONDS), ExitStack() as held:
            try:
                connection = held.enter_context(self._engine.connect())
                row = _insert(connection, values)
                # Of the session: the row can be seen only when this lock is held.
                connection.execute(select(func.pg_advisory_lock(-(_LOCKS | row.key))))
                connection.commit()
            except (OperationalError, NoConnection) as error:
                raise problem(error) from error
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
        if "\0" in name:  # PostgreSQL refuses such text.
            return None
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
        """Record the name in Milvus that a collection is made by, before it is made there."""
        self._update_unfinished(key, generation=generation)
        row = self.read(key)
        if row is None:
            raise Unavailable(INTERRUPTED)
        return row

    def finish(self, key: int, name: str) -> None:
        """Show a collection that is complete by its name; raise AlreadyExists if it is taken."""
        try:
            self._update_unfinished(key, name=name, making=None)
        except IntegrityError:
            raise AlreadyExists(f"there is already a collection {name!r}") from None

    def _update_unfinished(self, key: int, **values: Any) -> None:
        with self._begin() as connection:
            _update_unfinished(connection, key, values)

    def remove(self, row: Row) -> bool:
        """Delete a collection, and note that it is to be deleted in Milvus; False if none was."""
        with self._begin() as connection:
            return _remove(connection, collections.c.key == row.key)

    def abandon(self, key: int) -> bool:
        """Delete a collection as `remove` does, but only if it is not finished."""
        with self._begin() as connection:
            return _remove(connection, (collections.c.key == key) & collections.c.name.is_(None))

    def switch(self, old: Row, new: int, until: int) -> bool:
        """Replace a finished collection by the one that was made for that; False if it is gone.

        Raise Unavailable, and change nothing, if the old one has recorded writes after the number
        `until`: then its lock was lost with the connection that held it.
        """
        with self._begin() as connection:
            # Other writers wait for this row, and find it gone.
            removed = _delete(connection, collections.c.key == old.key)
            if removed is None:
                return False
            late = select(redo.c.id).where(redo.c.collection == old.key, redo.c.id > until)
            if connection.execute(late.limit(1)).first() is not None:
                raise Unavailable(
                    f"collection {old.name!r} was written meanwhile, as the connection to the "
                    "database was lost: re-encode it again"
                )
            _delete_rest(connection, removed)
            values = {"name": old.name, "replaces": None, "follows_patches": old.follows_patches}
            _update_unfinished(connection, new, values)
        return True

    def continue_serials(self, key: int, old: Row) -> None:
        """Let a copy count on where the original is."""
        self._update(key, next_serial=old.next_serial, written=old.next_serial)

    def abandoned(self) -> list[Row]:
        """Return the collections that nobody makes any more, for `abandon`."""
        unfinished = select(collections).where(collections.c.name.is_(None))
        if not self._is_shared:
            with self._lock, self._begin() as connection:
                rows = [Row(*row) for row in connection.execute(unfinished)]
                return [row for row in rows if row.key not in self._made]
        with self._begin() as connection:
            # One that ends between these two looks may be among them.
            rows = [Row(*row) for row in connection.execute(unfinished)]
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


def _release(connection: Connection) -> None:
    """Return a connection to the pool; do not fail if it is lost, since the write is done."""
    with suppress(DBAPIError):
        connection.rollback()
    connection.close()


def _busy(timeout: float) -> Unavailable:
    return Unavailable(f"other writes to the collection have not ended in {timeout:g} s")


@contextmanager
def _one_of(blocks: BoundedSemaphore, timeout: float) -> Iterator[None]:
    if not blocks.acquire(timeout=timeout):
        raise Unavailable("too many other writes are in progress: try again later")
    try:
        yield
    finally:
        blocks.release()


def _insert(connection: Connection, values: dict[str, Any]) -> Row:
    name = values.get("making")
    taken = select(collections.c.key).where(collections.c.name == name)
    if name is not None and connection.execute(taken).first() is not None:
        raise AlreadyExists(f"there is already a collection {name!r}")
    try:
        # Generation 0: nothing in Milvus is this collection's yet.
        result = connection.execute(insert(collections).values(generation=0, **values))
    except IntegrityError:
        if name is None:
            raise AlreadyExists("the collection is already being re-encoded") from None
        raise AlreadyExists(f"a collection {name!r} is already being made") from None
    (key,) = result.inserted_primary_key or (0,)
    return Row(*connection.execute(select(collections).where(collections.c.key == key)).one())


def _update_unfinished(connection: Connection, key: int, values: dict[str, Any]) -> None:
    """Change a collection that is being made; raise Unavailable if it is not any more."""
    unfinished = (collections.c.key == key) & collections.c.name.is_(None)
    if not connection.execute(update(collections).where(unfinished).values(**values)).rowcount:
        raise Unavailable(INTERRUPTED)


def _remove(connection: Connection, condition: Any) -> bool:
    row = _delete(connection, condition)
    if row is not None:
        _delete_rest(connection, row)
    return row is not None


def _delete(connection: Connection, condition: Any) -> Row | None:
    """Delete the row of the collection that meets a condition, and return it."""
    deleted = delete(collections).where(condition).returning(*collections.c)
    found = connection.execute(deleted).one_or_none()
    return None if found is None else Row(*found)


def _delete_rest(connection: Connection, row: Row) -> None:
    """Delete the recorded writes of a collection, and note that Milvus is to delete it."""
    connection.execute(delete(redo).where(redo.c.collection == row.key))
    connection.execute(delete(patches).where(patches.c.collection == row.key))
    if row.generation:
        connection.execute(insert(dropped).values(physical=row.physical))
