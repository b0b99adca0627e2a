"""Snapshots: collections as files in `snapshots/` of the data directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore
from typing import Protocol

from app.errors import Conflict, TooLarge, Unready, is_full
from app.service.collections.estimates import estimator
from app.service.encoder_store import Encoder, EncoderStore
from app.service.encoders import read_file
from app.service.files.snapshot_files import SnapshotFiles
from app.service.room import LimitedFile, check_room
from app.service.settings import Settings
from hashing import BadEncoder, Hasher, InvalidInput
from hashing.atomic_file import atomic_write
from hashing.base import MAX_BITS
from index import BadSnapshot, Full, NotFound, snapshot
from index.backend import Collection, Store

AT_ONCE = 4
"""Snapshots that may be written, uploaded or restored at the same time.

Each holds some blocks in memory.
"""


class Snapshots:
    """The snapshots of a service.

    Attributes
    ----------
    files : SnapshotFiles
    """

    def __init__(
        self, settings: Settings, store: Store, encoders: EncoderStore, keeper: Keeper
    ) -> None:
        self._settings = settings
        self.files = SnapshotFiles(settings)
        self._places = BoundedSemaphore(AT_ONCE)
        self._store = store
        self._encoders = encoders
        self._keeper = keeper

    def write(self, name: str, keep: int | None = None) -> tuple[str, int, list[str]]:
        """Write a collection to a new file; return the file's name and the number of items.

        If `keep` is given, keep only that many snapshots of this collection, the newest, and also
        return the names of those that were deleted.

        Raises
        ------
        Full
            The disk has no room, or the snapshots take too much; there is no file then.
        Unready
            Too many snapshots are being written or restored.
        """
        self._store.get(name)

        def write(collection: Collection) -> int:
            with atomic_write(path) as target:
                encoder = self._encoders.file_for(collection)
                return snapshot.write(collection, LimitedFile(target, self._settings), encoder)

        try:
            with self._place():
                path = self.files.new(name)
                items = self._store.use(name, write)
                return path.name, items, [] if keep is None else self.files.prune(name, keep)
        except OSError as error:
            if is_full(error):
                raise Full("the disk is full; no snapshot was written") from error
            raise

    def restore(self, name: str, file: str, encoder: str | None = None) -> Collection:
        """Create a collection from a file that `write` wrote.

        If there is no encoder of the name that the snapshot gives, or of the name `encoder`, it is
        created from the snapshot.

        Raises
        ------
        NotFound
            There is no such file, or there is no encoder and the snapshot contains none.
        AlreadyExists
            The name is taken, or an encoder of that name is being trained.
        InvalidInput
            `encoder` is given, but the codes of the snapshot have no encoder.
        Conflict
            There is an encoder of that name, but it did not make the snapshot's codes.
        BadSnapshot
            The file or the encoder in it is damaged, or the file contradicts the encoder.
        Full
            The disk has no room for the items.
        Unready
            Too many snapshots are being written or restored.
        """
        path = self.files.path(file)
        with self._place():
            check_room(self._settings, path.stat().st_size)
            return read_checked(self._store, self._encoders, path, name, encoder, self._keeper)

    @contextmanager
    def receiving(self, file: str) -> Iterator[LimitedFile]:
        """Do what `SnapshotFiles.receiving` does; raise Unready as `write` does."""
        with self._place(), self.files.receiving(file) as target:
            yield target

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Unready(
                f"{AT_ONCE} snapshots are being written, uploaded or restored: try again later"
            )
        try:
            yield
        finally:
            self._places.release()


def read_checked(
    store: Store,
    encoders: EncoderStore,
    path: Path,
    name: str,
    encoder: str | None,
    keeper: Keeper,
) -> Collection:
    """Make a collection from a snapshot file, and its encoder if it needs one that is not there.

    Parameters
    ----------
    encoder : str, optional
        Name of the encoder; by default that in the snapshot.
    keeper : Keeper
        Adds the encoder, and drops it again if there is no collection in the end.

    Raises
    ------
    What `Snapshots.restore` raises.
    """
    about = snapshot.describe(path)
    if not about.encoder:
        if encoder is not None:
            raise InvalidInput(f"{path.name} holds given codes, without an encoder to be named")
        return snapshot.read(store, path, name, partial(_check_given, path))
    encoder = about.encoder if encoder is None else encoder
    hasher = _encoder_in(path, about)
    with _there(encoders, encoder, hasher, keeper), encoders.pinned(encoder) as used:
        return snapshot.read(store, path, name, partial(_check, used, path), encoder)


class Keeper(Protocol):
    """What adds and drops encoders."""

    def add(self, name: str, hasher: Hasher, /) -> Encoder:
        """Store a fitted hasher under a new name."""

    def drop(self, name: str, /) -> None:
        """Delete an encoder; raise Conflict if something uses it."""


def _encoder_in(path: Path, about: snapshot.Description) -> Hasher | None:
    """Return the encoder that a snapshot contains; None for those of earlier versions."""
    if (file := snapshot.encoder_file(path)) is None:
        return None
    try:
        hasher = read_file(file)
    except (BadEncoder, InvalidInput, TooLarge) as error:
        raise BadSnapshot(f"the encoder in {path} cannot be used: {error}") from None
    if (hasher.fingerprint, hasher.n_bits) != (about.fingerprint, about.n_bits):
        raise BadSnapshot(
            f"{path} says that its codes have {about.n_bits} bits and come from the encoder with "
            f"fingerprint {about.fingerprint:.80}; the encoder in it makes {hasher.n_bits} bits "
            f"and has {hasher.fingerprint}"
        )
    return hasher


@contextmanager
def _there(
    encoders: EncoderStore, name: str, hasher: Hasher | None, keeper: Keeper
) -> Iterator[None]:
    """Add an encoder unless there is one of this name; drop it again if the block raises."""
    if hasher is None or name in [encoder.name for encoder in encoders.list()]:
        yield
        return
    keeper.add(name, hasher)
    try:
        yield
    except BaseException:
        # It stays if somebody uses it by now.
        with suppress(Conflict, NotFound):
            keeper.drop(name)
        raise


def _check_given(path: Path, about: snapshot.Description) -> None:
    """Raise BadSnapshot unless a snapshot of given codes is one that `Collections.create` makes."""
    has_more = about.fingerprint or about.keep_descriptors or about.has_encoder or about.metric
    if about.encoder or has_more or about.n_bits > MAX_BITS:
        raise BadSnapshot(
            f"{path} names no encoder: expected codes of at most {MAX_BITS} bits, without a "
            f"fingerprint and descriptors; got {about.n_bits} bits, the fingerprint "
            f"{about.fingerprint!r:.80}, descriptors: {about.keep_descriptors}, an encoder: "
            f"{about.has_encoder}, a metric: {about.metric}"
        )


def _check(encoder: Encoder, path: Path, about: snapshot.Description) -> int:
    """Raise unless an encoder made the codes of a snapshot; return the dimension it takes."""
    if encoder.fingerprint != about.fingerprint:
        raise Conflict(
            f"snapshot {path.name!r} holds codes of the encoder {about.encoder!r:.80} with "
            f"fingerprint {about.fingerprint:.80}; {encoder.name!r} has {encoder.fingerprint}. "
            "Give its encoder another name"
        )
    if encoder.hasher.n_bits != about.n_bits:
        raise BadSnapshot(
            f"{path} says that its codes have {about.n_bits} bits; its encoder makes "
            f"{encoder.hasher.n_bits}"
        )
    if about.metric is not None:
        try:
            estimator(encoder.hasher, about.metric, encoder.name)
        except InvalidInput as error:
            raise BadSnapshot(f"{path} cannot have been written: {error}") from None
    return encoder.hasher.n_features_in_
