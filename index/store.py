"""All collections of one database."""

from __future__ import annotations

import re
from threading import Lock

from index.collection import Collection
from index.database import Database
from index.errors import AlreadyExists, InvalidItems, NotFound

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS collections (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        n_bits INTEGER NOT NULL,
        encoder TEXT NOT NULL,
        fingerprint TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS items (
        collection INTEGER NOT NULL REFERENCES collections (key) ON DELETE CASCADE,
        id TEXT NOT NULL,
        code BLOB NOT NULL,
        label INTEGER,
        payload TEXT,
        PRIMARY KEY (collection, id)
    ) STRICT, WITHOUT ROWID""",
)


class Store:
    """The collections in a database, by name. Safe for threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        with database.transaction() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)
        rows = database.read("SELECT key, name, n_bits, encoder, fingerprint FROM collections")
        self._collections = {row[1]: Collection(database, *row) for row in rows}

    def create(
        self, name: str, n_bits: int, *, encoder: str = "", fingerprint: str = ""
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

        Raises
        ------
        AlreadyExists
        InvalidItems
        """
        check_name(name)
        if n_bits < 1:
            raise InvalidItems(f"n_bits must be at least 1, got {n_bits}")
        with self._lock:
            if name in self._collections:
                raise AlreadyExists(f"there is a collection {name!r} already")
            with self._database.transaction() as connection:
                cursor = connection.execute(
                    "INSERT INTO collections (name, n_bits, encoder, fingerprint) "
                    "VALUES (?, ?, ?, ?)",
                    (name, n_bits, encoder, fingerprint),
                )
            key = cursor.lastrowid or 0
            collection = Collection(self._database, key, name, n_bits, encoder, fingerprint)
            self._collections[name] = collection
            return collection

    def get(self, name: str) -> Collection:
        """The collection of a name; NotFound where there is none."""
        collection = self._collections.get(name)
        if collection is None:
            raise NotFound(f"there is no collection {name!r}")
        return collection

    def list(self) -> list[Collection]:
        """All collections, by name."""
        with self._lock:
            return sorted(self._collections.values(), key=lambda collection: collection.name)

    def drop(self, name: str) -> None:
        """Remove a collection and its items; NotFound where there is none."""
        with self._lock:
            self.get(name).drop()
            del self._collections[name]


def check_name(name: str) -> None:
    """Raise InvalidItems unless `name` may name a collection or an encoder."""
    if not NAME.fullmatch(name):
        raise InvalidItems(
            "a name has 1 to 64 of a-z, A-Z, 0-9, dot, dash and underscore and starts with a "
            f"letter or digit; got {name!r:.80}"
        )
