"""The encoders of a service, stored in the database and loaded in memory."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from sqlalchemy import and_, delete, insert, select
from sqlalchemy.exc import IntegrityError

from app.database.state import State, whole
from app.database.tables import encoders
from app.errors import Conflict
from app.service.files.backup import RECORD, connect
from hashing import Hasher, InvalidInput
from hashing.registry import from_bytes
from index import AlreadyExists, NotFound, check_name
from index.backend import Collection


@dataclass(frozen=True)
class Encoder:
    """A fitted hasher with its name, and its fingerprint, which takes a while to compute."""

    name: str
    hasher: Hasher
    fingerprint: str


class EncoderStore:
    """Fitted hashers by name, stored as the bytes that `Hasher.save` writes. Thread-safe.

    All of them are in memory. Where other replicas add and drop encoders as well, `get` and `list`
    compare names and fingerprints with the database, and read a file only if it is another one.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = Lock()
        self._naming, self._reencoding = Lock(), Lock()
        self._pins: Counter[str] = Counter()
        self.trained_by: Callable[[str], str | None] = lambda name: None
        """Returns the id of the job that is to train the encoder of a name, if there is one."""
        self._encoders: dict[str, Encoder] = {}
        if state.shared:
            self.list()
            return
        # One file at a time, so as not to hold the bytes of all.
        for (name,) in state.read(select(encoders.c.name)):
            ((file,),) = state.read(select(encoders.c.file).where(encoders.c.name == name))
            self._encoders[name] = _encoder(name, from_bytes(file))

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Keep others, here and in other replicas, from giving a name to an encoder or training."""
        with self._naming, self._state.locked("names of encoders"):
            yield

    @contextmanager
    def reencoding(self) -> Iterator[None]:
        """Keep others, here and in other replicas, from queueing a re-encoding."""
        with self._reencoding, self._state.locked("re-encodings"):
            yield

    def add(self, name: str, hasher: Hasher) -> Encoder:
        """Store a fitted hasher under a new name; raise AlreadyExists if the name is taken."""
        check_name(name)
        file = hasher.to_bytes()
        # A file that cannot be read back would make the next start fail.
        encoder = _encoder(name, from_bytes(file))
        row = {"name": name, "file": file}
        if self._state.shared:
            row["fingerprint"] = encoder.fingerprint
        with self._lock:
            try:
                with self._state.writing() as execute:
                    execute(insert(encoders).values(**row))
            except IntegrityError:
                raise self._taken(name) from None
            self._encoders[name] = encoder
        return encoder

    def check_free(self, name: str) -> None:
        """Raise AlreadyExists if there is an encoder with this name."""
        if self._current(name) is not None:
            raise self._taken(name)

    def get(self, name: str) -> Encoder:
        """Return the encoder with this name; raise NotFound if there is none."""
        encoder = self._current(name)
        if encoder is None:
            job = self.trained_by(name)
            training = "" if job is None else f" yet: it is being trained by job {job}"
            raise NotFound(f"there is no encoder {name!r}{training}")
        return encoder

    def list(self) -> list[Encoder]:
        """Return all encoders, sorted by name."""
        if self._state.shared:
            loaded = [*self._encoders]
            rows = self._state.read(select(encoders.c.name, encoders.c.fingerprint))
            for name in {*loaded}.difference(name for name, _ in rows):
                self._encoders.pop(name, None)  # Another replica has dropped it.
            found = [self._as_stored(*row) for row in rows]
            return sorted((one for one in found if one is not None), key=lambda one: one.name)
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
        encoder = self._encoders.get(collection.encoder)
        # An encoder with this fingerprint is the right one: queries need not ask the database.
        if encoder is None or encoder.fingerprint != collection.fingerprint:
            encoder = self.get(collection.encoder)
        if encoder.fingerprint != collection.fingerprint:
            raise Conflict(
                f"collection {collection.name!r} holds codes of the encoder with fingerprint "
                f"{collection.fingerprint}; {collection.encoder!r} has {encoder.fingerprint}"
            )
        return encoder.hasher

    def file_for(self, collection: Collection) -> bytes | None:
        """Return the file of the encoder that made the codes of a collection; None without one."""
        encoder = self._current(collection.encoder)
        if encoder is None or encoder.fingerprint != collection.fingerprint:
            return None
        return encoder.hasher.to_bytes()

    @contextmanager
    def pinned(self, name: str) -> Iterator[Encoder]:
        """Return an encoder that cannot be dropped inside the block; raise NotFound.

        Code that ties an encoder to a collection or to a job does so inside such a block, so that
        `drop` sees either the pin or the collection or job.
        """
        with self._state.locked(f"encoder {name}", share=True):
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
        # Checked before as well, so as not to wait for a request of this process.
        self._check_not_pinned(name)
        with self._state.locked(f"encoder {name}"), self._lock:
            self.get(name)
            check_unused()
            self._check_not_pinned(name)
            with self._state.writing() as execute:
                execute(delete(encoders).where(encoders.c.name == name))
            self._encoders.pop(name, None)

    def _check_not_pinned(self, name: str) -> None:
        if self._pins[name]:
            raise Conflict(f"encoder {name!r} is in use by another request: try again later")

    def _taken(self, name: str) -> AlreadyExists:
        return AlreadyExists(f"there is already an encoder {name!r}")

    def _current(self, name: str) -> Encoder | None:
        """Return the encoder with this name as the database has it now; None without one."""
        if not self._state.shared:
            return self._encoders.get(name)
        named = encoders.c.name == name
        rows = self._state.read(select(encoders.c.fingerprint).where(named))
        return self._as_stored(name, rows[0][0] if rows else None)

    def _as_stored(self, name: str, fingerprint: str | None) -> Encoder | None:
        """Return the encoder that the database has, loaded if another replica has stored it."""
        encoder = self._encoders.get(name)
        if encoder is not None and encoder.fingerprint == fingerprint:
            return encoder
        file = None
        if fingerprint is not None:
            same = and_(encoders.c.name == name, encoders.c.fingerprint == fingerprint)
            file = whole(self._state, encoders.c.file, same)
        if file is None:
            self._encoders.pop(name, None)
            return None
        encoder = self._encoders[name] = _encoder(name, from_bytes(file))
        return encoder


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
