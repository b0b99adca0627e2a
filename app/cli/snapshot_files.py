"""Snapshots from the command line: of a data directory, or through the service that owns it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.cli.running_service import running_service
from app.service.collections.snapshots import read_checked
from app.service.data_dir import SNAPSHOTS, open_private
from app.service.encoder_store import EncoderStore
from app.service.settings import Settings
from hashing.atomic_file import atomic_write, temporary_file
from index import AlreadyExists, Database, InUse, NotFound, Store, snapshot


def save(settings: Settings, url: str | None, name: str, file: Path) -> int:
    """Write a collection to a file and return how many items it has."""
    open_private(settings.data_dir)
    try:
        with _open(settings) as (store, _):
            collection = store.get(name)
            with atomic_write(file) as target:
                return snapshot.write(collection, target)
    except InUse:
        return _save_through_service(settings, url, name, file)


def load(settings: Settings, url: str | None, file: Path, name: str | None) -> tuple[str, int]:
    """Create a collection from a file and return its name and how many items it has.

    Raises
    ------
    ValueError
        The encoder of the snapshot is not there, so the collection could be neither written to
        nor queried; or the file does not name its collection, and no name is given.
    """
    open_private(settings.data_dir)
    about = snapshot.describe(file)
    name = name or about.name
    if name is None:
        raise ValueError(f"{file} does not name its collection: give it a name with --name")
    try:
        with _open(settings) as (store, encoders):
            if about.encoder:
                named = [encoder for encoder in encoders.list() if encoder.name == about.encoder]
                _check_encoder(about, {encoder.fingerprint for encoder in named})
            return name, len(read_checked(store, encoders, file, name))
    except InUse:
        return name, _load_through_service(settings, url, file, name, about)


def _save_through_service(settings: Settings, url: str | None, name: str, file: Path) -> int:
    with running_service(settings, url) as service:
        made = service.snapshot(name)
    # Whatever the answer says, only a file in that folder is copied and removed.
    path = settings.data_dir / SNAPSHOTS / Path(made.snapshot).name
    if path.suffix != ".snapshot" or not path.is_file():
        raise ValueError("the service has another data directory: give its address with --url")
    try:
        with path.open("rb") as source, atomic_write(file) as target:
            shutil.copyfileobj(source, target)
    finally:
        path.unlink()
    return made.items


def _load_through_service(
    settings: Settings, url: str | None, file: Path, name: str, about: snapshot.Description
) -> int:
    with running_service(settings, url) as service:
        if about.encoder:
            fingerprint = service.encoder_fingerprint(about.encoder)
            _check_encoder(about, set() if fingerprint is None else {fingerprint})
        folder = settings.data_dir / SNAPSHOTS
        folder.mkdir(exist_ok=True)
        with file.open("rb") as source, temporary_file(folder, "restore-") as copy:
            if os.geteuid() == 0:
                # The service may run as another user, who owns the folder.
                os.chown(copy.fileno(), folder.stat().st_uid, folder.stat().st_gid)
            shutil.copyfileobj(source, copy)
            copy.flush()
            return service.restore(name, Path(copy.name).name).items


@contextmanager
def _open(settings: Settings) -> Iterator[tuple[Store, EncoderStore]]:
    """Open the collections and encoders of the data directory; InUse while a service owns it."""
    database = Database(settings.data_dir / "bitcell.db")
    try:
        encoders, store = EncoderStore(database), Store(database)
        try:
            yield store, encoders
        finally:
            store.close()
    except (NotFound, AlreadyExists) as error:
        raise ValueError(str(error)) from None
    finally:
        database.close()


def _check_encoder(about: snapshot.Description, fingerprints: set[str]) -> None:
    if about.fingerprint not in fingerprints:
        raise ValueError(
            f"the snapshot needs the encoder {about.encoder!r} with fingerprint "
            f"{about.fingerprint}, which is not there: add that encoder first"
        )
