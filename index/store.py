"""All collections of one database."""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes
from index.collection import Collection
from index.errors import AlreadyExists, InvalidItems, NotFound, Replaced
from index.maintenance import Maintenance
from index.reencoding import copy_all, copy_written
from index.storage import migrate
from index.storage.database import Database
from index.storage.schema import SCHEMA

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Names that nobody can give: collections that are being made.
_UNFINISHED = "/new"
_COLUMNS = "key, name, n_bits, encoder, fingerprint, keep_descriptors"


class Store:
    """The collections in a database, by name. Safe for threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._maintenance = Maintenance()
        with database.transaction() as connection:
            if database.version == 1:
                migrate.prepare(connection)
            for statement in SCHEMA:
                connection.execute(statement)
            if database.version == 1:
                migrate.finish(database, connection)
            connection.execute("DELETE FROM collections WHERE name LIKE ?", ("%" + _UNFINISHED,))
        rows = database.read(f"SELECT {_COLUMNS} FROM collections")  # noqa: S608
        self._collections = {row[1]: self._open(*row) for row in rows}

    def _open(
        self, key: int, name: str, n_bits: int, encoder: str, fingerprint: str, keep: int
    ) -> Collection:
        wake = self._maintenance.wake
        return Collection(self._database, key, name, n_bits, encoder, fingerprint, keep, wake)

    def close(self) -> None:
        """Stop what runs in the background; the database stays open."""
        self._maintenance.close()

    def settle(self) -> None:
        """Wait until all tables are built and nothing is left to do in the background."""
        self._maintenance.settle()

    def create(
        self,
        name: str,
        n_bits: int,
        *,
        encoder: str = "",
        fingerprint: str = "",
        keep_descriptors: bool = False,
    ) -> Collection:
        """A new, empty collection.

        Parameters
        ----------
        name : str
            1 to 64 letters, digits, dots, dashes and underscores, the first a letter or digit.
        n_bits : int
            Code length.
        encoder, fingerprint : str
            What makes the codes; kept, not interpreted.
        keep_descriptors : bool
            Whether items come with their descriptors, to rerank by and to encode anew.

        Raises
        ------
        AlreadyExists
        InvalidItems
        """
        _check_new(name, n_bits)
        with self._lock:
            self._check_free(name)
            collection = self._insert(name, n_bits, encoder, fingerprint, keep_descriptors)
            self._collections[name] = collection
            return collection

    def _insert(
        self, name: str, n_bits: int, encoder: str, fingerprint: str, keep: bool
    ) -> Collection:
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO collections (name, n_bits, encoder, fingerprint, keep_descriptors) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (name, n_bits, encoder, fingerprint, int(keep)),
            )
            if not cursor.rowcount:
                raise AlreadyExists(f"{name.removesuffix(_UNFINISHED)!r} is being made already")
        return self._open(cursor.lastrowid or 0, name, n_bits, encoder, fingerprint, int(keep))

    def _check_free(self, name: str) -> None:
        if name in self._collections:
            raise AlreadyExists(f"there is a collection {name!r} already")

    def get(self, name: str) -> Collection:
        """The collection of a name; NotFound where there is none."""
        collection = self._collections.get(name)
        if collection is None:
            raise NotFound(f"there is no collection {name!r}")
        return collection

    def use(self, name: str, work: Callable[[Collection], T]) -> T:
        """What `work` gives for a collection; once more where that was encoded anew meanwhile."""
        while True:
            try:
                return work(self.get(name))
            except Replaced:
                # The new one is there once whoever replaced it lets go.
                with self._lock:
                    pass

    def list(self) -> list[Collection]:
        """All collections, by name."""
        with self._lock:
            return sorted(self._collections.values(), key=lambda collection: collection.name)

    def drop(self, name: str) -> None:
        """Remove a collection and its items; NotFound where there is none."""
        with self._lock:
            self.get(name).drop()
            del self._collections[name]

    def begin(
        self, name: str, n_bits: int, *, encoder: str, fingerprint: str, keep_descriptors: bool
    ) -> Collection:
        """A collection that nobody sees before `finish`, and that a crash takes away."""
        _check_new(name, n_bits)
        with self._lock:
            self._check_free(name)
            unfinished = name + _UNFINISHED
            return self._insert(unfinished, n_bits, encoder, fingerprint, keep_descriptors)

    def finish(self, collection: Collection, name: str) -> None:
        """Give a collection from `begin` its name."""
        with self._lock:
            self._check_free(name)
            collection.rename(name)
            self._collections[name] = collection

    def reencode(
        self,
        name: str,
        encode: Callable[[NDArray[np.float16]], Codes],
        n_bits: int,
        *,
        encoder: str = "",
        fingerprint: str = "",
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> Collection:
        """Encode all items anew from the descriptors that are kept, and change over at once.

        Until then the collection serves, and takes writes, which are encoded anew as well; on
        an error or a crash nothing has changed. Calls of a collection from before the change raise
        `Replaced`: get it anew, and encode anew.

        Parameters
        ----------
        encode : callable
            Descriptors, (n, d) float16, to packed codes of `n_bits`.
        progress : callable
            Told how many items are done, of how many.

        Raises
        ------
        NotFound
        InvalidItems
            The collection keeps no descriptors.
        AlreadyExists
            It is being encoded anew already.
        """
        old = self.get(name)
        written = old.watch()
        new = None
        try:
            new = self._insert(name + _UNFINISHED, n_bits, encoder, fingerprint, True)
            copy_all(old, new, encode, progress)
            with self._lock, self._database.exclusive():
                copy_written(old, new, written, encode)
                new.take_over(old)
                self._collections[name] = new
        except BaseException:
            if new is not None:
                new.drop()
            raise
        finally:
            old.unwatch()
        return new


def check_name(name: str) -> None:
    """Raise InvalidItems unless `name` may name a collection or an encoder."""
    if not NAME.fullmatch(name):
        raise InvalidItems(
            "a name has 1 to 64 of a-z, A-Z, 0-9, dot, dash and underscore and starts with a "
            f"letter or digit; got {name!r:.80}"
        )


def _check_new(name: str, n_bits: int) -> None:
    check_name(name)
    if n_bits < 1:
        raise InvalidItems(f"n_bits must be at least 1, got {n_bits}")
