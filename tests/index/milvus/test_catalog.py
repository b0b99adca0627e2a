"""What the database holds of collections in Milvus, when the database is short of something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from sqlalchemy import create_engine, event, insert, select, text

from app.database import engine, shared
from app.database.engine import open_engine
from app.database.migrate import migrate
from app.database.shared import SharedState
from app.database.tables import drift
from app.service.settings import Settings
from app.service.state.opening import _local_index_state
from index import Full, Unavailable
from index.milvus import catalog as catalogs
from index.milvus.catalog import Catalog
from index.milvus.tables import metadata

Block = Callable[[int], AbstractContextManager[object]]


def enter_all(blocks: ExitStack, kind: Block) -> None:
    for n in count():
        blocks.enter_context(kind(n))


def test_blocks_that_hold_a_connection_leave_some_for_their_statements(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there may be are open at the same time, and each still reads and writes."""
    monkeypatch.setattr(engine, "POOL_SECONDS", 0.2)
    monkeypatch.setattr(shared, "POOL_SECONDS", 0.01)
    monkeypatch.setattr(catalogs, "_MAKER_SECONDS", 0.01, raising=False)
    opened = open_engine(database_url)
    migrate(opened)
    catalog, state = Catalog(opened), SharedState(opened)
    kinds: list[Block] = [
        lambda n: catalog.inserted(making=f"c{n}", n_bits=8, encoder="", fingerprint=""),
        lambda n: catalog.holding(n, 0.01),
        lambda n: state.locked(f"{n}"),
    ]
    with ExitStack() as blocks:
        for kind in kinds:
            with pytest.raises(Unavailable):
                enter_all(blocks, kind)
        assert catalog.read(0) is None
        assert catalog.named("a\0b") is None  # Which PostgreSQL refuses to look for.
        assert state.read(select(1)) == [(1,)]
    opened.dispose()


def test_a_lock_of_another_replica_is_waited_for_as_long_as_a_writer_says(
    database_url: str,
) -> None:
    engines = [open_engine(database_url) for _ in range(2)]
    mine, theirs = map(Catalog, engines)
    message = r"^other writes to the collection have not ended in 0.01 s$"
    with mine.holding(1, 1), pytest.raises(Unavailable, match=message), theirs.holding(1, 0.01):
        pass
    for each in engines:
        each.dispose()


def test_a_writer_that_has_lost_its_lock_changes_nothing(tmp_path: Path) -> None:
    """Its row is older than what another writer has made of it meanwhile."""
    opened = create_engine(f"sqlite:///{tmp_path / 'milvus.db'}")
    metadata.create_all(opened)
    catalog = Catalog(opened)
    with catalog.inserted(making="c", n_bits=8, encoder="", fingerprint="") as row:
        catalog.finish(row.key, "c")
    old = catalog.named("c")
    assert old is not None
    number = catalog.record(old, "upsert", b"", 5, None)
    assert number is not None
    catalog.confirm(old.key, number, 1)
    for n_serials in (0, 1):
        with pytest.raises(Unavailable, match="lock of the collection was lost"):
            catalog.record(old, "delete", b"", n_serials, None)
    now = catalog.named("c")
    assert now is not None
    assert (now.next_serial, now.written) == (5, 5)
    # A deletion uses no serial numbers: only the version says that items may have changed.
    deletion = catalog.record(now, "delete", b"", 0, None)
    assert deletion is not None
    catalog.confirm(now.key, deletion, 2)
    with pytest.raises(Unavailable, match="lock of the collection was lost"):
        catalog.record(now, "upsert", b"", 1, np.arange(1))
    assert catalog.record(now, "upsert", b"", 1, None) is not None
    opened.dispose()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[SharedState]:
    """The file of one service with its collections in Milvus and without PostgreSQL."""
    with ExitStack() as stack:
        yield _local_index_state(Settings(data_dir=tmp_path), stack)


def raise_full() -> NoReturn:
    raise Full("the disk has no room")


def test_a_full_disk_is_said_to_be_full(
    local: SharedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(local.engine)
    with catalog.inserted(making="c", n_bits=8, encoder="", fingerprint="") as row:
        pass

    @event.listens_for(local.engine, "checkout")
    def limit(connection: Any, record: object, proxy: object) -> None:
        connection.execute("PRAGMA max_page_count = 60")

    with pytest.raises(Full, match=r"^the disk of the database of the index has no room$"):
        catalog.record(row, "upsert", bytes(1 << 20), 1, None)
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "_begin", raise_full)
        with pytest.raises(Unavailable, match="has no room"):  # The write may be done.
            catalog.confirm(row.key, 1, 1)
    with pytest.raises(Full, match="could not be written"), local.writing() as execute:
        execute(insert(drift).values(collection=1, watched="x" * (1 << 20)))
    # It is not taken for a server that does not answer.
    assert local.is_reached
    assert catalog.read(row.key) == row


def test_a_write_waits_for_another_one_and_reads_do_not(local: SharedState) -> None:
    catalog = Catalog(local.engine)
    with local.engine.connect() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar_one() == 30_000
        connection.execute(text("PRAGMA busy_timeout = 1"))  # For the next one that is lent.
        with local.engine.begin() as other:
            other.execute(insert(drift).values(collection=1, watched="x"))
            connection.close()
            assert catalog.finished() == []
            with pytest.raises(Unavailable, match="in the way"):
                catalog.is_dropped("c")
            with pytest.raises(Unavailable, match="in the way"), local.writing() as execute:
                execute(insert(drift).values(collection=2, watched="x"))
    assert local.is_reached


def test_an_unreachable_database_is_not_described_to_clients() -> None:
    away = open_engine("postgresql://somebody@127.0.0.1:1/d")
    catalog = Catalog(away)
    message = r"^the database of the index cannot be used: try again later$"
    with pytest.raises(Unavailable, match=message):
        catalog.read(1)
    with pytest.raises(Unavailable, match=message), catalog.holding(1, 1):
        pass
    with (
        pytest.raises(Unavailable, match=message),
        catalog.inserted(making="c", n_bits=8, encoder="", fingerprint=""),
    ):
        pass
    away.dispose()


def test_a_write_that_is_done_does_not_fail_because_its_lock_is_lost(database_url: str) -> None:
    opened = open_engine(database_url)
    catalog = Catalog(opened)
    sessions = "pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    for _ in range(2):
        with catalog.holding(1, 5), opened.connect() as other:
            other.execute(text(f"SELECT pg_terminate_backend(pid, 5000) FROM {sessions}"))
    opened.dispose()
