"""Snapshots: collections as files in `snapshots/` of the data directory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore

from app.errors import Conflict, Unready, is_full
from app.service.data_dir import SNAPSHOTS
from app.service.encoder_store import Encoder, EncoderStore
from app.service.room import LimitedFile, check_room
from app.service.settings import Settings
from hashing.atomic_file import atomic_write
from hashing.base import MAX_BITS
from index import BadSnapshot, Collection, Full, NotFound, Store, snapshot

AT_ONCE = 4
"""Snapshots that may be written or restored at the same time: each holds some blocks in memory."""

# At most as long as file systems allow: `is_file` raises OSError on longer names.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


class Snapshots:
    """The snapshot files of a service."""

    def __init__(self, settings: Settings, store: Store, encoders: EncoderStore) -> None:
        self._settings = settings
        self._folder = settings.data_dir / SNAPSHOTS
        self._places = BoundedSemaphore(AT_ONCE)
        self._store = store
        self._encoders = encoders

    def write(self, name: str) -> tuple[str, int]:
        """Write a collection to a new file; return the file's name and the number of items.

        Raises
        ------
        Full
            The disk has no room, or the snapshots take too much; there is no file then.
        Unready
            Too many snapshots are being written or restored.
        """
        self._store.get(name)
        file = f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.snapshot"

        def write(collection: Collection) -> int:
            with atomic_write(self._folder / file) as target:
                return snapshot.write(collection, LimitedFile(target, self._settings))

        try:
            with self._place():
                self._folder.mkdir(exist_ok=True)
                return file, self._store.use(name, write)
        except OSError as error:
            if is_full(error):
                raise Full("the disk is full; no snapshot was written") from error
            raise

    def restore(self, name: str, file: str) -> Collection:
        """Create a collection from a file that `write` wrote.

        Raises
        ------
        NotFound
            There is no such file, or no encoder of the name that the snapshot gives, if any.
        Conflict
            There is an encoder of that name, but it did not make the snapshot's codes.
        BadSnapshot
            The file is damaged, or contradicts the encoder.
        Full
            The disk has no room for the items.
        Unready
            Too many snapshots are being written or restored.
        """
        path = self._folder / file
        if not _FILE_NAME.fullmatch(file) or not path.is_file():
            raise NotFound(f"there is no snapshot {file!r:.200} in {self._folder}")
        with self._place():
            check_room(self._settings, path.stat().st_size)
            return read_checked(self._store, self._encoders, path, name)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Unready(f"{AT_ONCE} snapshots are being written or restored: try again later")
        try:
            yield
        finally:
            self._places.release()


def read_checked(store: Store, encoders: EncoderStore, path: Path, name: str) -> Collection:
    """Make a collection from a snapshot file; unless its codes were given, their encoder is needed.

    Raises what `Snapshots.restore` raises.
    """
    about = snapshot.describe(path)
    if not about.encoder:
        return snapshot.read(store, path, name, partial(_check_given, path))
    with encoders.pinned(about.encoder) as encoder:
        return snapshot.read(store, path, name, partial(_check, encoder, path))


def _check_given(path: Path, about: snapshot.Description) -> None:
    """Raise BadSnapshot unless a snapshot of given codes is one that `Collections.create` makes."""
    if about.encoder or about.fingerprint or about.keep_descriptors or about.n_bits > MAX_BITS:
        raise BadSnapshot(
            f"{path} names no encoder: expected codes of at most {MAX_BITS} bits, without a "
            f"fingerprint and descriptors; got {about.n_bits} bits, the fingerprint "
            f"{about.fingerprint!r:.80}, descriptors: {about.keep_descriptors}"
        )


def _check(encoder: Encoder, path: Path, about: snapshot.Description) -> int:
    """Raise unless an encoder made the codes of a snapshot; return the dimension it takes."""
    if (encoder.name, encoder.fingerprint) != (about.encoder, about.fingerprint):
        raise Conflict(
            f"snapshot {path.name!r} holds codes of the encoder {about.encoder!r:.80} with "
            f"fingerprint {about.fingerprint:.80}; {encoder.name!r} has {encoder.fingerprint}"
        )
    if encoder.hasher.n_bits != about.n_bits:
        raise BadSnapshot(
            f"{path} says that its codes have {about.n_bits} bits; its encoder makes "
            f"{encoder.hasher.n_bits}"
        )
    return encoder.hasher.n_features_in_
