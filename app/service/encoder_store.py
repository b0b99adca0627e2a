"""The encoders of a service, stored in the database and loaded in memory."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from app.errors import Conflict
from app.service.files.backup import RECORD, connect
from hashing import Hasher, InvalidInput
from hashing.registry import from_bytes
from index import AlreadyExists, Database, NotFound, check_name
from index.backend import Collection

_SCHEMA = """CREATE TABLE IF NOT EXISTS encoders (
    name TEXT PRIMARY KEY,
    file BLOB NOT NULL
) STRICT, WITHOUT ROWID"""


@dataclass(frozen=True)
class Encoder:
    """A fitted hasher with its name, and its fingerprint, which takes a while to compute."""

    name: str
    hasher: Hasher
    fingerprint: str


class EncoderStore:
    """Fitted hashers by name, stored as the bytes that `Hasher.save` writes. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._pins: Counter[str] = Counter()
        self.trained_by: Callable[[str], str | None] = lambda name: None
        """Returns the id of the job that is to train the encoder of a name, if there is one."""
        with database.transaction() as connection:
            connection.execute(_SCHEMA)
        rows = database.read("SELECT name, file FROM encoders")
        self._encoders = {name: _encoder(name, from_bytes(file)) for name, file in rows}

    def add(self, name: str, hasher: Hasher) -> Encoder:
        """Store a fitted hasher under a new name; raise AlreadyExists if the name is taken."""
        check_name(name)
        file = hasher.to_bytes()
        # A file that cannot be read back would make the next start fail.
        encoder = _encoder(name, from_bytes(file))
        with self._lock:
            self.check_free(name)
            with self._database.transaction() as connection:
                connection.execute("INSERT INTO encoders VALUES (?, ?)", (name, file))
            self._encoders[name] = encoder
        return encoder

    def check_free(self, name: str) -> None:
        """Raise AlreadyExists if there is an encoder with this name."""
        if name in self._encoders:
            raise AlreadyExists(f"there is already an encoder {name!r}")

    def get(self, name: str) -> Encoder:
        """Return the encoder with this name; raise NotFound if there is none."""
        encoder = self._encoders.get(name)
        if encoder is None:
            job = self.trained_by(name)
            training = "" if job is None else f" yet: it is being trained by job {job}"
            raise NotFound(f"there is no encoder {name!r}{training}")
        return encoder

    def list(self) -> list[Encoder]:
        """Return all encoders, sorted by name."""
        with self._lock:
            return [self._encoders[name] for name in sorted(self._encoders)]

    def hasher_of(self, collection: Collection) -> Hasher:
        """Return the hasher that made the codes of a collection.

        Raises
        ------
        InvalidInput
            The collection has no encoder: its codes are given.
        NotFound
            There is no encoder of that name.
        Conflict
            There is one, but its fingerprint is not that of the collection's codes.
        """
        if not collection.encoder:
            raise InvalidInput(
                f"collection {collection.name!r} has no encoder: give codes of {collection.n_bits} "
                "bits instead of descriptors or images"
            )
        encoder = self.get(collection.encoder)
        if encoder.fingerprint != collection.fingerprint:
            raise Conflict(
                f"collection {collection.name!r} holds codes of the encoder with fingerprint "
                f"{collection.fingerprint}; {collection.encoder!r} has {encoder.fingerprint}"
            )
        return encoder.hasher

    def file_for(self, collection: Collection) -> bytes | None:
        """Return the file of the encoder that made the codes of a collection; None without one."""
        encoder = self._encoders.get(collection.encoder)
        if encoder is None or encoder.fingerprint != collection.fingerprint:
            return None
        return encoder.hasher.to_bytes()

    @contextmanager
    def pinned(self, name: str) -> Iterator[Encoder]:
        """Return an encoder that cannot be dropped inside the block; raise NotFound.

        Code that ties an encoder to a collection or to a job does so inside such a block, so that
        `drop` sees either the pin or the collection or job.
        """
        with self._lock:
            encoder = self.get(name)
            self._pins[name] += 1
        try:
            yield encoder
        finally:
            with self._lock:
                self._pins[name] -= 1

    def drop(self, name: str, check_unused: Callable[[], None]) -> None:
        """Delete an encoder; raise NotFound if there is none, Conflict while it is pinned.

        `check_unused` raises if anything else uses the encoder. It runs while no pin can be taken.
        """
        with self._lock:
            self.get(name)
            check_unused()
            if self._pins[name]:
                raise Conflict(f"encoder {name!r} is in use by another request: try again later")
            with self._database.transaction() as connection:
                connection.execute("DELETE FROM encoders WHERE name = ?", (name,))
            del self._encoders[name]


def file_in(data_dir: Path, name: str) -> bytes:
    """Return the file of an encoder of a data directory, even while a service has that open.

    Raise NotFound if there is none of this name, and OSError if the record cannot be read.
    """
    path = data_dir / RECORD
    try:
        with closing(connect(path)) as connection:
            rows = connection.execute(
                "SELECT file FROM encoders WHERE name = ?", (name,)
            ).fetchall()
    except sqlite3.Error as error:
        raise OSError(f"{path} cannot be read: {error}") from None
    if not rows:
        raise NotFound(f"there is no encoder {name!r:.80} in {data_dir}")
    file: bytes = rows[0][0]
    return file


def _encoder(name: str, hasher: Hasher) -> Encoder:
    return Encoder(name, hasher, hasher.fingerprint)
