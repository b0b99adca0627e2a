"""Snapshots from the command line: of a data directory, or through the service that owns it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app.cli.running_service import running_service
from app.service.collections.snapshots import read_checked
from app.service.data_dir import SNAPSHOTS, open_private
from app.service.encoder_store import Encoder, EncoderStore
from app.service.settings import Settings
from app.service.state.opening import open_all
from hashing import Hasher
from hashing.atomic_file import atomic_write, temporary_file
from index import AlreadyExists, InUse, NotFound, snapshot
from index.backend import Store


def save(settings: Settings, url: str | None, name: str, file: Path) -> int:
    """Write a collection to a file and return how many items it has."""
    open_private(settings.data_dir)
    try:
        with _open(settings) as (store, encoders):
            collection = store.get(name)
            with atomic_write(file) as target:
                return snapshot.write(collection, target, encoders.file_for(collection))
    except InUse:
        return _save_through_service(settings, url, name, file)


def load(
    settings: Settings, url: str | None, file: Path, name: str | None, encoder: str | None
) -> tuple[str, int]:
    """Create a collection from a file and return its name and how many items it has.

    Raises
    ------
    ValueError
        The encoder of the snapshot is neither there nor in it, or its name belongs to another
        encoder; or the file does not name its collection, and no name is given.
    """
    open_private(settings.data_dir)
    about = snapshot.describe(file)
    name = about.name if name is None else name
    if name is None:
        raise ValueError(f"{file} does not name its collection: give it a name with --name")
    wanted = about.encoder if encoder is None else encoder
    try:
        with _open(settings) as (store, encoders):
            if about.encoder:
                found = {one.name: one.fingerprint for one in encoders.list()}
                _check_encoder(about, wanted, found.get(wanted))
            keeper = _Keeper(encoders)
            return name, len(read_checked(store, encoders, file, name, encoder, keeper))
    except InUse:
        return name, _load_through_service(settings, url, file, name, about, encoder)


def _save_through_service(settings: Settings, url: str | None, name: str, file: Path) -> int:
    with running_service(settings, url) as service:
        made = service.snapshot(name)
    # Whatever the answer says, only a file in that folder is copied and removed.
    path = settings.files_dir / SNAPSHOTS / Path(made.snapshot).name
    if path.suffix != ".snapshot" or not path.is_file():
        raise ValueError("the service has another data directory: give its address with --url")
    try:
        with path.open("rb") as source, atomic_write(file) as target:
            shutil.copyfileobj(source, target)
    finally:
        path.unlink()
    return made.items


def _load_through_service(
    settings: Settings,
    url: str | None,
    file: Path,
    name: str,
    about: snapshot.Description,
    encoder: str | None,
) -> int:
    with running_service(settings, url) as service:
        if about.encoder:
            wanted = about.encoder if encoder is None else encoder
            _check_encoder(about, wanted, service.encoder_fingerprint(wanted))
        folder = settings.files_dir / SNAPSHOTS
        folder.mkdir(exist_ok=True)
        with file.open("rb") as source, temporary_file(folder, "restore-") as copy:
            if os.geteuid() == 0:
                # The service may run as another user, who owns the folder.
                os.chown(copy.fileno(), folder.stat().st_uid, folder.stat().st_gid)
            shutil.copyfileobj(source, copy)
            copy.flush()
            return service.restore(name, Path(copy.name).name, encoder).items


@contextmanager
def _open(settings: Settings) -> Iterator[tuple[Store, EncoderStore]]:
    """Open the collections and encoders of the data directory; InUse while a service owns it."""
    try:
        with ExitStack() as opened:
            found = open_all(settings, opened)
            yield found.store, EncoderStore(found.state)
    except (NotFound, AlreadyExists) as error:
        raise ValueError(str(error)) from None


class _Keeper:
    """Adds and drops encoders of a data directory that this process alone has open."""

    def __init__(self, encoders: EncoderStore) -> None:
        self._encoders = encoders

    def add(self, name: str, hasher: Hasher) -> Encoder:
        return self._encoders.add(name, hasher)

    def drop(self, name: str) -> None:
        self._encoders.drop(name, lambda: None)


def _check_encoder(about: snapshot.Description, name: str, fingerprint: str | None) -> None:
    """Raise ValueError if an encoder of this name, with this fingerprint if any, is no use."""
    if fingerprint is None and not about.has_encoder:
        raise ValueError(
            f"the snapshot needs the encoder {name!r} with fingerprint {about.fingerprint}, which "
            "is neither there nor in the snapshot: add that encoder first"
        )
    if fingerprint not in (None, about.fingerprint):
        raise ValueError(
            f"the snapshot needs the encoder with fingerprint {about.fingerprint}, and {name!r} "
            "is another one: give its encoder another name with --encoder"
        )
