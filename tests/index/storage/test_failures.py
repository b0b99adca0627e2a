"""What SQLite and the system report, as errors of the index."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest

from index import (
    Closed,
    Damaged,
    Database,
    DiskError,
    Full,
    SearchOptions,
    Store,
    snapshot,
)

CODES = np.arange(100, dtype=np.uint8)[:, None]
IDS = [f"{i}" for i in range(100)]


def test_an_io_error_is_no_lack_of_room(store: Store, database: Database) -> None:
    """A limit on the size of files makes writes fail while there is room on the disk."""
    collection = store.create("c", 8)
    collection.upsert(IDS, CODES)
    store.settle()
    size = database.path.with_name(database.path.name + "-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(DiskError, match="could not be read or written: disk I/O error"):
            collection.upsert(["new"], CODES[:1])
        with pytest.raises(DiskError):
            store.create("d", 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(collection) == 100
    collection.upsert(["new"], CODES[:1])
    assert len(collection) == 101
    assert database.fault is None


@pytest.mark.parametrize("free", [0, 1 << 30])
def test_a_failed_write_counts_as_full_only_without_room(
    free: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))

    def fail(_: sqlite3.Connection) -> None:
        raise error

    expected = DiskError if free else Full
    with pytest.raises(expected):
        database.write(fail, lambda: None, lambda: None)
    with pytest.raises(expected), database.transaction() as connection:
        fail(connection)


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "closed.db")
    store = Store(database)
    collection = store.create("c", 8, keep_descriptors=True)
    X = np.zeros((100, 2))
    collection.upsert(IDS, CODES, None, [{"i": i} for i in range(100)], X)
    store.close()
    database.close()
    calls: list[Callable[[], Any]] = [
        lambda: collection.upsert(IDS, CODES, None, None, X),
        lambda: collection.delete(IDS),
        lambda: collection.get("1"),
        lambda: collection.items(0, 10),
        lambda: collection.search(CODES[:1], SearchOptions(3)),
        lambda: collection.descriptors(IDS),
        lambda: list(collection.descriptor_batches()),
        lambda: store.create("d", 8),
        lambda: store.drop("c"),
        lambda: store.reencode("c", lambda X: X.astype(np.uint8), 8),
        lambda: Store(database),
        lambda: database.read("SELECT 1"),
        lambda: write_snapshot(store, tmp_path / "c.snapshot"),
    ]
    for call in calls:
        with pytest.raises(Closed, match=r"closed\.db has been closed"):
            call()
    database.close()


def write_snapshot(store: Store, path: Path) -> None:
    with path.open("wb") as file:
        snapshot.write(store.get("c"), file)


def test_damage_is_remembered(store: Store, database: Database) -> None:
    collection = store.create("c", 8)
    collection.upsert(["a", "b"], CODES[:2], None, [{"i": 1}, {"i": 2}])
    with database.transaction() as connection:
        connection.execute("UPDATE payloads SET payload = '{\"i\":3}' WHERE serial = 0")
    assert database.fault is None
    with pytest.raises(Damaged) as raised:
        collection.get("a")
    assert database.fault == str(raised.value)
    # The rest of it still answers.
    assert collection.get("b").payload == {"i": 2}


def test_damage_that_sqlite_finds_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    database = Database(path)
    store = Store(database)
    store.create("c", 8).upsert(IDS, CODES, None, [{"text": "x" * 1000}] * 100)
    store.close()
    database.close()
    data = bytearray(path.read_bytes())
    ((page, size),) = sqlite3.connect(path).execute(
        "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema "
        "WHERE name = 'payloads'"
    )
    data[(page - 1) * size : page * size] = bytes(size)
    path.write_bytes(data)
    database = Database(path)
    with pytest.raises(Damaged, match=r"damaged\.db is damaged: database disk image is malformed"):
        Store(database)
    assert database.fault
    database.close()


def test_batches_of_descriptors_read_no_payloads(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = store.create("c", 8, keep_descriptors=True)
    X = np.arange(200, dtype=np.float16).reshape(100, 2)
    collection.upsert(IDS, CODES, range(100), [{"i": i} for i in range(100)], X)
    monkeypatch.delattr("index.storage.record.Record.payload_bytes")
    ((ids, labels, descriptors),) = collection.descriptor_batches()
    order = [IDS.index(item_id) for item_id in ids]
    assert sorted(ids) == sorted(IDS)
    assert labels.tolist() == order
    assert (descriptors == X[order]).all()


def test_a_file_can_be_closed_while_it_is_read(database: Database) -> None:
    """SQLite would crash if a connection was closed while another thread uses it."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    errors: list[BaseException] = []
    barrier = Barrier(9)

    def read() -> None:
        barrier.wait()
        try:
            database.read(endless)
        except Closed as error:
            errors.append(error)

    # More than there are connections, so that some wait for one.
    threads = [Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    barrier.wait()
    database.close()
    for thread in threads:
        thread.join(30)
    assert len(errors) == 8
    database.close()
    with pytest.raises(Closed):
        database.read("SELECT 1")


def test_a_connection_that_is_not_given_back_stays_open(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.storage.database._CLOSING_SECONDS", 0.01)
    with database.reading() as connection:
        database.close()
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
