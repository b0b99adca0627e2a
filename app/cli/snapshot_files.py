"""Snapshots from the command line: of a data directory, or by way of the service that holds it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.client import Client, NotFound, ServiceError, Unreachable
from app.service.encoder_store import EncoderStore
from app.service.keys import WRITE, Keys
from app.service.settings import Settings
from hashing.atomic_file import replacing
from index import AlreadyExists, Database, InUse, Store, snapshot
from index import NotFound as NotThere

# A snapshot of many millions of items takes minutes.
_SECONDS = 3600


def save(settings: Settings, url: str | None, name: str, file: Path) -> int:
    """Write a collection to a file; how many items it has."""
    if not (settings.data_dir / "bitcell.db").is_file():
        raise ValueError(f"{settings.data_dir} holds no data: is BITCELL_DATA_DIR set?")
    try:
        with _opened(settings) as (store, _):
            collection = store.get(name)
            with replacing(file) as target:
                return snapshot.write(collection, target)
    except InUse:
        pass
    with _service(settings, url) as client:
        made = client.snapshot(name)
        # Only a file of that folder is copied and removed, whatever has answered.
        path = settings.data_dir / "snapshots" / Path(made.snapshot).name
        if path.suffix != ".snapshot" or not path.is_file():
            raise ValueError("the service has another data directory: say by --url where it is")
        try:
            with path.open("rb") as source, replacing(file) as target:
                shutil.copyfileobj(source, target)
        finally:
            path.unlink()
    return made.items


def load(settings: Settings, url: str | None, file: Path, name: str | None) -> tuple[str, int]:
    """Make a collection of what a file holds: its name and how many items it has.

    ValueError where its encoder is not there: nothing could be put into it, or asked of it.
    """
    about = snapshot.describe(file)
    name = name or about.name
    if name is None:
        raise ValueError(f"{file} does not say what its collection was called: give a --name")
    try:
        with _opened(settings) as (store, encoders):
            prints = {one.fingerprint for one in encoders.list() if one.name == about.encoder}
            _check_encoder(about, prints)
            return name, len(snapshot.read(store, file, name))
    except InUse:
        pass
    with _service(settings, url) as client:
        try:
            _check_encoder(about, {client.encoder(about.encoder).fingerprint})
        except NotFound:
            _check_encoder(about, set())
        folder = settings.data_dir / "snapshots"
        folder.mkdir(exist_ok=True)
        copy = folder / f"{uuid.uuid4().hex}.snapshot"
        try:
            shutil.copyfile(file, copy)
            made = client.restore(name, copy.name)
        finally:
            copy.unlink(missing_ok=True)
    return name, made.items


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[Store, EncoderStore]]:
    """What lies in the data directory; InUse while a service holds it."""
    database = Database(settings.data_dir / "bitcell.db")
    try:
        encoders, store = EncoderStore(database), Store(database)
        try:
            yield store, encoders
        finally:
            store.close()
    except (NotThere, AlreadyExists) as error:
        raise ValueError(str(error)) from None
    finally:
        database.close()


@contextmanager
def _service(settings: Settings, url: str | None) -> Iterator[Client]:
    """A client of the service that holds the data directory.

    Where there are keys it has one of its own for as long as it lasts: who may write the data
    directory may make them.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    bracketed = f"[{host}]" if ":" in host else host
    url = url or f"http://{bracketed}:{settings.port}"
    keys = Keys(settings.data_dir)
    key, secret = keys.create("snapshot", WRITE) if keys.any() else (None, "")
    try:
        with Client(url, secret or None, timeout=_SECONDS, retries=0) as client:
            yield client
    except ServiceError as error:
        raise ValueError(error.detail) from None
    except Unreachable as error:
        raise ValueError(
            f"{settings.data_dir} is in use, and no service answers at {url}: {error}; say by "
            "--url where it is"
        ) from None
    finally:
        if key:
            keys.revoke(key.id)
        keys.close()


def _check_encoder(about: snapshot.Description, fingerprints: set[str]) -> None:
    if about.fingerprint not in fingerprints:
        raise ValueError(
            f"its codes are of the encoder {about.encoder!r} with fingerprint "
            f"{about.fingerprint}, which is not there: put that encoder there first"
        )
