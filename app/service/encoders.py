"""The encoders of a service, by name: in the record, and in memory to be used."""

from __future__ import annotations

from dataclasses import dataclass
from threading import RLock

from hashing import Hasher
from hashing.registry import from_bytes
from index import AlreadyExists, Database, NotFound
from index.store import check_name

_SCHEMA = """CREATE TABLE IF NOT EXISTS encoders (
    name TEXT PRIMARY KEY,
    file BLOB NOT NULL
) STRICT, WITHOUT ROWID"""


@dataclass(frozen=True)
class Encoder:
    """A fitted hasher under a name, with its fingerprint, which takes a while to compute."""

    name: str
    hasher: Hasher
    fingerprint: str


class Encoders:
    """Fitted hashers by name, stored as the safetensors bytes that `Hasher.save` writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = RLock()
        with database.transaction() as connection:
            connection.execute(_SCHEMA)
        rows = database.read("SELECT name, file FROM encoders")
        self._encoders = {name: _encoder(name, from_bytes(file)) for name, file in rows}

    def add(self, name: str, hasher: Hasher) -> Encoder:
        """Keep a fitted hasher under a new name; AlreadyExists where there is one."""
        check_name(name)
        file = hasher.to_bytes()
        # What cannot be read back would stop the next start.
        encoder = _encoder(name, from_bytes(file))
        with self._lock:
            self.check_free(name)
            with self._database.transaction() as connection:
                connection.execute("INSERT INTO encoders VALUES (?, ?)", (name, file))
            self._encoders[name] = encoder
        return encoder

    def check_free(self, name: str) -> None:
        """Raise AlreadyExists where there is an encoder of that name."""
        if name in self._encoders:
            raise AlreadyExists(f"there is an encoder {name!r} already")

    def get(self, name: str) -> Encoder:
        """The encoder of a name; NotFound where there is none."""
        encoder = self._encoders.get(name)
        if encoder is None:
            raise NotFound(f"there is no encoder {name!r}")
        return encoder

    def list(self) -> list[Encoder]:
        """All encoders, by name."""
        with self._lock:
            return [self._encoders[name] for name in sorted(self._encoders)]

    def drop(self, name: str) -> None:
        """Forget an encoder; NotFound where there is none."""
        with self._lock:
            self.get(name)
            with self._database.transaction() as connection:
                connection.execute("DELETE FROM encoders WHERE name = ?", (name,))
            del self._encoders[name]


def _encoder(name: str, hasher: Hasher) -> Encoder:
    return Encoder(name, hasher, hasher.fingerprint)
