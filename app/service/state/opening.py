"""Opening what a service works on: in the data directory, in PostgreSQL, or in Milvus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, create_engine, event

from app.database.embedded import EmbeddedState
from app.database.engine import Unreachable, explained, first_line, open_engine, shown
from app.database.guard import Guard
from app.database.migrate import migrate
from app.database.shared import SharedState
from app.database.state import State, whole
from app.database.tables import encoders
from app.service.data_dir import lock_data_dir
from app.service.encoder_store import file_in
from app.service.keys import REQUIRED_FILE, Keys
from app.service.settings import Settings
from app.service.state.keys import KeyStore, SharedKeys
from index import Database, NotFound, Unavailable, Unreadable
from index import Store as EmbeddedStore
from index.backend import Store

_INDEX_FILE = "milvus.db"
_WRITE_SECONDS = 30
"""How long a write to that file waits for others."""


@dataclass(frozen=True)
class Opened:
    """What a service works on.

    Attributes
    ----------
    state : State
        Encoders and jobs.
    index_state : State
        What is kept next to the collections.
    store : Store
        The collections.
    record : Database or None
        `bitcell.db` of the data directory, unless both of the others are servers.
    """

    state: State
    index_state: State
    store: Store
    record: Database | None

    @property
    def servers(self) -> list[SharedState]:
        """The databases that may be unreachable."""
        return [self.state] if isinstance(self.state, SharedState) else []


def open_all(settings: Settings, opened: ExitStack) -> Opened:
    """Open state and collections where the settings say; `opened` closes them.

    The data directory is locked in any case: this process alone keeps the files of its jobs there.

    Raises
    ------
    InUse
        Another process uses the data directory.
    Unreadable
        A newer version has made the data, or another process has the database for itself.
    Unavailable
        A server cannot be reached.
    ValueError
        A URL or what it needs is wrong.
    """
    if settings.database_url is not None and settings.index_url is not None:
        opened.enter_context(lock_data_dir(settings.data_dir))
        shared = _open_held(settings, opened, alone=False)
        return Opened(shared, shared, _milvus(settings, shared.engine, opened), None)
    record = opened.enter_context(closing(Database(settings.data_dir / "bitcell.db")))
    embedded = EmbeddedState(record)
    if settings.index_url is not None:
        beside = _local_index_state(settings, opened)
        return Opened(embedded, beside, _milvus(settings, beside.engine, opened), record)
    state: State = embedded
    if settings.database_url is not None:
        state = _open_held(settings, opened, alone=True)
    store = EmbeddedStore(record, max_columns=settings.max_columns)
    opened.callback(store.close)
    return Opened(state, embedded, store, record)


def open_state(settings: Settings, opened: ExitStack, *, upgrade: bool = False) -> SharedState:
    """Open the shared database of the settings, and make its tables if there are none.

    `upgrade` brings those of an older version up to date; without it, they are refused.
    """
    url = settings.database_url
    engine = open_engine("" if url is None else url.get_secret_value())
    opened.callback(engine.dispose)
    try:
        migrate(engine, upgrade=upgrade)
    except Unreachable as error:  # The operator may know why, other than clients.
        place, why = shown(engine.url), first_line(error.__cause__)
        raise Unavailable(f"the database {place} cannot be reached: {why}") from error
    return SharedState(engine)


def open_keys(settings: Settings, state: State | None) -> KeyStore:
    """Open the keys: in the shared database, or else in the data directory."""
    if not isinstance(state, SharedState):
        return Keys(settings.data_dir)
    required_here = (settings.data_dir / REQUIRED_FILE).exists()
    return SharedKeys(state, required_here=required_here)


@contextmanager
def keys_of(settings: Settings) -> Iterator[KeyStore]:
    """Open the keys of a service for a command, whether or not the service runs."""
    with ExitStack() as opened:
        state = None if settings.database_url is None else open_state(settings, opened)
        yield opened.enter_context(closing(open_keys(settings, state)))


def encoder_file(settings: Settings, name: str) -> bytes:
    """Return the file of an encoder for a command, even while a service runs.

    Raise NotFound if there is none of this name, and OSError if the data cannot be read.
    """
    if settings.database_url is None:
        return file_in(settings.data_dir, name)
    with ExitStack() as opened:
        state = open_state(settings, opened)
        file = whole(state, encoders.c.file, encoders.c.name == name)
    if file is None:
        raise NotFound(f"there is no encoder {name!r:.80} in the shared database")
    return file


def _open_held(settings: Settings, opened: ExitStack, *, alone: bool) -> SharedState:
    """Open the shared database; keep out services that would mix their collections with these.

    Those are the ones with an embedded index: one of them is alone with its database.
    """
    state = open_state(settings, opened, upgrade=True)
    guard = Guard(state.engine, alone=alone)
    with explained():
        if not guard.take():
            raise Unreadable(
                f"the database {shown(state.engine.url)} is in use by another process: "
                "several processes share it only if all of them have BITCELL_INDEX_URL set"
            )
    opened.callback(guard.close)
    state.guard = guard
    return state


def _local_index_state(settings: Settings, opened: ExitStack) -> SharedState:
    """Open the tables of the collections in Milvus in the data directory."""
    path = settings.data_dir / _INDEX_FILE
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"timeout": _WRITE_SECONDS}, hide_parameters=True
    )
    opened.callback(engine.dispose)

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, record: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")  # Reads and writes do not wait.
        connection.execute("PRAGMA synchronous = FULL")  # Every commit is on the disk.

    migrate(engine)
    return SharedState(engine)


def _milvus(settings: Settings, engine: Engine, opened: ExitStack) -> Store:
    try:
        from index.milvus.store import MilvusStore
    except ImportError as error:
        raise ValueError(
            f"BITCELL_INDEX_URL needs {error.name}, which is not installed here: pip install "
            "'bitcell[servers]'"
        ) from None
    url = settings.index_url
    store = MilvusStore(
        "" if url is None else url.get_secret_value(),
        engine,
        consistency=settings.consistency,
        timeout=settings.index_timeout,
    )
    opened.callback(store.close)
    return store
