"""All collections of one database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

from bitcodes import Codes
from index.backend import Capabilities
from index.collection import Collection
from index.errors import AlreadyExists, NotFound, Replaced
from index.filters.cache import ColumnCache
from index.maintenance import Maintenance
from index.reencoding import Check, Descriptors, Encoding, Factors, copy_all, copy_changes
from index.state import State
from index.storage import catalog, migrate
from index.storage.catalog import DescriptorType, Metric
from index.storage.database import VERSION, Database
from index.storage.schema import SCHEMA
from index.validation import check_bits, check_name

MAX_COLUMNS = 256 << 20
"""Default of `max_columns`."""

_CAPABILITIES = Capabilities(reach=None, batch=None, estimates=True)

T = TypeVar("T")


class Store:
    """The collections in a database, by name. Safe for threads.

    `get` and `list` wait for no other call.

    Parameters
    ----------
    database : Database
    max_columns : int
        Bytes of memory for fields of payloads that filters use, in all collections together.
        Columns of a single query that exceed it are not kept, but read for each query.
    """

    def __init__(self, database: Database, *, max_columns: int = MAX_COLUMNS) -> None:
        self._database = database
        self._columns = ColumnCache(max_columns)
        # Held while names are given or taken.
        self._lock = Lock()
        # Names of collections that are being made, which nobody else can take.
        self._being_made: set[str] = set()
        with database.transaction() as connection:
            if database.version < VERSION:
                migrate.add_columns(connection)
            for statement in SCHEMA:
                connection.execute(statement)
            if database.version == 1:
                migrate.move_items(database, connection)
            if database.version < VERSION:
                migrate.set_version(connection)
            unfinished = catalog.hide_unfinished(connection)
            rows = catalog.visible(connection)
        self._maintenance = Maintenance()
        try:
            # Replaced as a whole, so that it can be read without a lock; but only with `_lock`.
            self._collections = {row.name: Collection(self._open(row)) for row in rows}
        except BaseException:
            self._maintenance.close()
            raise
        for key in unfinished:
            self._maintenance.delete(database, key)
        self._maintenance.shrink(database)

    def _open(self, row: catalog.Row) -> State:
        return State(self._database, row, self._columns, self._maintenance.wake)

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return _CAPABILITIES

    def close(self) -> None:
        """Stop the work in the background. The database stays open."""
        self._maintenance.close()

    def settle(self) -> None:
        """Wait until the work in the background is done: tables are built, drops completed."""
        self._maintenance.settle()

    def create(
        self,
        name: str,
        n_bits: int,
        *,
        encoder: str = "",
        fingerprint: str = "",
        keep_descriptors: bool | DescriptorType = False,
        metric: Metric | None = None,
    ) -> Collection:
        """Make a new, empty collection.

        Parameters
        ----------
        name : str
            1 to 64 letters, digits, dots, dashes and underscores; the first is a letter or digit.
        n_bits : int
            Code length.
        encoder, fingerprint : str
            Name and fingerprint of what makes the codes. The index stores them as they are.
        keep_descriptors : bool, "float32" or "float16"
            Whether items come with their descriptors, for reranking and re-encoding, and how they
            are kept: by default as float32. As float16 they take half the room, but lose much if
            they are far from zero compared with how they differ, or smaller than 1e-4.
        metric : {"euclidean", "cosine", "dot"}, optional
            Rank by estimates of this distance rather than by the Hamming distance. Items then come
            with the factors of their estimates.

        Raises
        ------
        AlreadyExists
        InvalidItems
            The name or the code length is not allowed.
        """
        _check_new(name, n_bits)
        with self._lock:
            self._check_free(name)
            kept = "float32" if keep_descriptors is True else keep_descriptors or None
            state = self._insert(name, int(n_bits), encoder, fingerprint, kept, metric)
            return self._publish(state)

    def _insert(
        self,
        name: str,
        n_bits: int,
        encoder: str,
        fingerprint: str,
        keep: DescriptorType | None,
        metric: Metric | None,
        *,
        unfinished: bool = False,
    ) -> State:
        with self._database.transaction() as connection:
            row = catalog.insert(
                connection,
                name,
                n_bits,
                encoder,
                fingerprint,
                keep,
                metric,
                unfinished=unfinished,
            )
        return self._open(row)

    def _publish(self, state: State) -> Collection:
        collection = Collection(state)
        self._collections = {**self._collections, state.name: collection}
        return collection

    def _check_free(self, name: str) -> None:
        if name in self._collections:
            raise AlreadyExists(f"there is already a collection {name!r}")
        if name in self._being_made:
            raise AlreadyExists(f"a collection {name!r} is already being made")

    def get(self, name: str) -> Collection:
        """Return the collection of this name; raise NotFound if there is none."""
        collection = self._collections.get(name)
        if collection is None:
            raise NotFound(f"there is no collection {name!r}")
        return collection

    def use(self, name: str, work: Callable[[Collection], T]) -> T:
        """Return work(collection). If the collection is re-encoded meanwhile, call `work` again."""
        while True:
            try:
                return work(self.get(name))
            except Replaced:
                # `get` returns the new one: it is published before the old one raises Replaced.
                continue

    def list(self) -> list[Collection]:
        """Return all collections, by name."""
        return [collection for _, collection in sorted(self._collections.items())]

    def drop(self, name: str) -> None:
        """Drop a collection; raise NotFound if there is none of this name.

        On return the name is free, also after a crash. The items are deleted in the background.
        """
        with self._lock:
            state = self.get(name)._state

            def work(connection: sqlite3.Connection) -> None:
                catalog.hide(connection, state.key)

            def publish() -> None:
                self._collections = {n: c for n, c in self._collections.items() if n != name}
                state.remove(NotFound(f"there is no collection {name!r}"))

            # Alone: a write in the same transaction would be acknowledged and gone.
            with self._database.exclusive():
                self._database.write(work, publish, lambda: None)
        self._maintenance.delete(self._database, state.key)

    def _discard(self, state: State) -> None:
        """Remove a collection that was not finished. A full disk does not make this fail."""
        state.remove(NotFound(f"there is no collection {state.name!r}"))
        self._maintenance.delete(self._database, state.key)

    @contextmanager
    def making(
        self,
        name: str,
        n_bits: int,
        *,
        encoder: str,
        fingerprint: str,
        descriptor_type: DescriptorType | None,
        metric: Metric | None,
    ) -> Iterator[Collection]:
        """Make a collection that is visible only after the block, and never if the block raises.

        The parameters are those of `create`, and how descriptors are kept, None if they are not.
        """
        _check_new(name, n_bits)
        with self._lock:
            self._check_free(name)
            self._being_made.add(name)
        try:
            state = self._insert(
                name, n_bits, encoder, fingerprint, descriptor_type, metric, unfinished=True
            )
            try:
                yield Collection(state)
                with self._lock:
                    with self._database.transaction() as connection:
                        catalog.rename(connection, state.key, name)
                    self._publish(state)
            except BaseException:
                self._discard(state)
                raise
        finally:
            with self._lock:
                self._being_made.discard(name)

    def reencode(
        self,
        name: str,
        encode: Callable[[Descriptors], Codes],
        n_bits: int,
        *,
        encoder: str = "",
        fingerprint: str = "",
        metric: Metric | None = None,
        factors: Factors | None = None,
        check: Check = lambda descriptors, codes: None,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> Collection:
        """Encode all items again, from their kept descriptors, and switch to the new codes.

        Until the switch the collection answers searches with its old codes and accepts writes,
        which are encoded again too; only the last of them wait. An error or a crash leaves the
        collection as it was. After the switch every call of the old `Collection` raises
        `Replaced`: get the new one and encode the queries with the new encoder.

        Parameters
        ----------
        encode : callable
            Takes descriptors, (n, d), and returns packed codes of `n_bits`.
        metric : {"euclidean", "cosine", "dot"}, optional
            Rank by estimates of this distance from then on; by default by the Hamming distance.
        factors : callable
            Takes descriptors and returns their factors, (n, 3). It is needed, and called, with a
            `metric`.
        check : callable
            Called with kept descriptors and the codes that are to be replaced, some items at a
            time. It may raise to give up.
        progress : callable
            Called with the number of items done and the number of all items.

        Raises
        ------
        NotFound
        InvalidItems
            The collection keeps no descriptors.
        AlreadyExists
            It is already being re-encoded.
        """
        old = self.get(name)._state
        old.track_changes()
        try:
            new = self._insert(
                name,
                n_bits,
                encoder,
                fingerprint,
                old.descriptor_type,
                metric,
                unfinished=True,
            )
            try:
                code = Encoding(encode, factors, check)
                copy_all(old, new, code, progress)
                with old.no_writes():
                    copy_changes(old, new, code, progress)
                    with self._lock, self._database.exclusive():
                        return self._switch(old, new)
            except BaseException:
                self._discard(new)
                raise
        finally:
            old.stop_tracking()

    def _switch(self, old: State, new: State) -> Collection:
        published: list[Collection] = []

        def work(connection: sqlite3.Connection) -> None:
            old.check_present()
            catalog.hide(connection, old.key)
            catalog.rename(connection, new.key, old.name)

        def publish() -> None:
            published.append(self._publish(new))
            old.remove(Replaced(f"collection {old.name!r} has been re-encoded"))

        self._database.write(work, publish, lambda: None)
        self._maintenance.delete(self._database, old.key)
        return published[0]


def _check_new(name: str, n_bits: int) -> None:
    check_name(name)
    check_bits(n_bits)
