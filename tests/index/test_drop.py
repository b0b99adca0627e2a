"""Dropping a collection: its name is free at once, and its items are deleted bit by bit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, cast

import numpy as np
import pytest

from index import (
    AlreadyExists,
    Collection,
    Database,
    DescriptorType,
    Filter,
    Found,
    Full,
    NotFound,
    Replaced,
    SearchOptions,
    Store,
    snapshot,
)
from index.maintenance import Maintenance
from index.storage import catalog
from tests.index.conftest import opened

TABLES = ("collections", "parts", "deaths", "payloads", "vectors")
CODES = np.arange(200, dtype=np.uint8)[:, None]
IDS = [f"{i:03}" for i in range(200)]


def fill(store: Store, name: str, mark: str) -> Collection:
    """Make a collection with rows in every table."""
    collection = store.create(name, 8, encoder=mark, keep_descriptors=True)
    X = np.arange(800, dtype=np.float16).reshape(200, 4)
    collection.upsert(IDS, CODES, range(200), [{"mark": mark}] * 200, X)
    collection.delete(IDS[:20])
    return collection


def rows_of(database: Database) -> dict[str, set[int]]:
    """The keys of the collections that each table has rows of."""
    columns = {"collections": "key"}
    return {
        table: {
            key
            for (key,) in database.read(f"SELECT {columns.get(table, 'collection')} FROM {table}")
        }
        for table in TABLES
    }


def is_whole(collection: Collection, mark: str) -> bool:
    found = collection.search(CODES[:1], SearchOptions(300))[0].neighbours
    return len(found) == 180 and all(near.payload == {"mark": mark} for near in found)


def test_list_and_get_do_not_wait_for_a_drop(store: Store, database: Database) -> None:
    fill(store, "c", "old")
    other = store.create("other", 8)
    with ThreadPoolExecutor(2) as pool:
        with database.exclusive():
            drop = pool.submit(store.drop, "c")
            while not store._lock.locked():
                pass
            # The drop now waits for the lock on writes.
            assert other in pool.submit(store.list).result(timeout=20)
            assert pool.submit(store.get, "other").result(timeout=20) is other
        drop.result(timeout=20)
    assert store.list() == [other]


def test_a_drop_deletes_a_few_rows_at_a_time(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes wait for a transaction, so none may delete all rows."""
    deleted: list[int] = []
    delete_some = catalog.delete_some

    def counted(connection: sqlite3.Connection, key: int, limit: int) -> bool:
        before = connection.total_changes
        more = delete_some(connection, key, limit)
        deleted.append(connection.total_changes - before)
        return more

    monkeypatch.setattr(catalog, "delete_some", counted)
    monkeypatch.setattr("index.maintenance._ROWS_AT_FIRST", 10)
    # Every transaction takes too long for that, so that none is larger than the first.
    monkeypatch.setattr("index.maintenance._DELETING_SECONDS", 0)
    fill(store, "c", "old")
    store.settle()
    n_rows = sum(database.read(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES)
    store.drop("c")
    store.settle()
    assert sum(deleted) == n_rows > 300
    assert max(deleted) <= 10
    assert rows_of(database) == {table: set() for table in TABLES}


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_a_crash_in_a_drop_leaves_nothing_visible(
    chunks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "crash.db"
    with monkeypatch.context() as patch:
        patch.setattr(Maintenance, "delete", lambda *_: None)
        with opened(path) as (database, store):
            fill(store, "c", "old")
            ((key,),) = database.read("SELECT key FROM collections")
            store.drop("c")
            for _ in range(chunks):
                with database.transaction() as connection:
                    assert catalog.delete_some(connection, key, 90)
        # What a crash leaves is there after a start without maintenance, too.
        with opened(path) as (database, store):
            assert store.list() == []
            with pytest.raises(NotFound):
                store.get("c")
            assert is_whole(fill(store, "c", "new"), "new")
            assert key in rows_of(database)["collections"]
    with opened(path) as (database, store):
        store.settle()
        (collection,) = store.list()
        assert (collection.name, collection.encoder) == ("c", "new")
        assert is_whole(collection, "new")
        ((new_key,),) = database.read("SELECT key FROM collections")
        assert new_key != key
        assert rows_of(database) == {table: {new_key} for table in TABLES}


def reencode(store: Store) -> None:
    store.reencode("c", lambda X: np.full((len(X), 1), 1, np.uint8), 8, encoder="new")


REMOVALS = pytest.mark.parametrize(
    ("remove", "error"), [(lambda store: store.drop("c"), NotFound), (reencode, Replaced)]
)


@contextmanager
def before_publication(
    monkeypatch: pytest.MonkeyPatch, check: Callable[[], object]
) -> Iterator[None]:
    """Call `check` after each commit in the block, before the change is published."""
    write = Database.write

    def checked_write(self: Database, work: Any, publish: Any, undo: Any) -> Any:
        def check_and_publish() -> None:
            check()
            publish()

        return write(self, work, check_and_publish, undo)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", checked_write)
        yield


@REMOVALS
def test_a_reader_never_sees_a_collection_without_its_payloads(
    remove: Callable[[Store], None],
    error: type[Exception],
    store: Store,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the commit of a removal and its publication, and after that, too."""
    collection = fill(store, "c", "old")
    seen: list[bool] = []
    with before_publication(monkeypatch, lambda: seen.append(is_whole(collection, "old"))):
        remove(store)
    assert seen
    assert all(seen)
    store.settle()
    for _ in range(2):
        with pytest.raises(error):
            is_whole(collection, "old")


def test_a_search_that_a_drop_overtakes_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = fill(store, "c", "old")
    record = collection._state.record
    read = record.payload_bytes

    def overtaken(serials: Any, *count: Any) -> dict[int, bytes]:
        store.drop("c")
        store.settle()
        return read(serials, *count)

    monkeypatch.setattr(record, "payload_bytes", overtaken)
    with pytest.raises(NotFound, match="no collection 'c'"):
        collection.search(CODES[:1], SearchOptions(3))


def fill_fields(store: Store) -> Iterator[Callable[..., list[Found]]]:
    """Make a collection; yield searches with filters that all items match, each on a new field."""
    collection = store.create("c", 8, keep_descriptors=True)
    payloads = [{f"f{i}": 1 for i in range(30)}] * len(IDS)
    collection.upsert(IDS, CODES, None, payloads, np.zeros((len(IDS), 1)))
    for i in range(30):
        options = SearchOptions(300, where=Filter({f"f{i}": 1}))
        yield partial(collection.search, CODES[:1], options)


@REMOVALS
def test_a_filter_finds_all_until_a_removal_is_published(
    remove: Callable[[Store], None],
    error: type[Exception],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reads a column between the commit of the removal and its publication, and after that."""
    searches = fill_fields(store)
    search = next(searches)
    seen: list[int] = []
    with before_publication(monkeypatch, lambda: seen.append(len(next(searches)()[0].neighbours))):
        remove(store)
    assert seen
    assert set(seen) == {len(IDS)}
    store.settle()
    for again in (search, next(searches)):
        with pytest.raises(error):
            again()


@REMOVALS
def test_a_filter_that_a_removal_overtakes_while_it_reads_is_refused(
    remove: Callable[[Store], None],
    error: type[Exception],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("index.filters.columns._CHUNK", 50)
    searches = fill_fields(store)
    search, waiting_search = next(searches), next(searches)
    waiting, proceed = Event(), Event()

    def wait() -> None:
        waiting.set()
        assert proceed.wait(20)

    steps = 0

    def remove_at_second_step() -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            remove(store)
            store.settle()

    with ThreadPoolExecutor(1) as pool:
        with store._columns.reading:
            # It waits for its turn to read.
            waits = pool.submit(partial(waiting_search, checkpoint=wait))
            assert waiting.wait(20)
        with pytest.raises(error):
            search(checkpoint=remove_at_second_step)
        proceed.set()
        with pytest.raises(error):
            waits.result(20)
    assert store._columns.nbytes == 0


def test_a_deletion_that_fails_is_tried_again(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk can stop a deletion, too."""
    fill(store, "c", "old")
    store.settle()
    with monkeypatch.context() as patch:

        def fail(*_: Any) -> bool:
            raise Full("no room")

        patch.setattr(catalog, "delete_some", fail)
        store.drop("c")
        store.settle()
    assert len(rows_of(database)["parts"]) == 1
    other = store.create("other", 8)
    store.settle()
    assert rows_of(database) == {
        table: {other._state.key} if table == "collections" else set() for table in TABLES
    }


def test_a_name_is_free_right_after_the_drop(store: Store, database: Database) -> None:
    for mark in ("first", "second", "third"):
        assert is_whole(fill(store, "c", mark), mark)
        store.drop("c")
    assert store.list() == []
    store.settle()
    assert rows_of(database) == {table: set() for table in TABLES}


def broken_snapshot(store: Store, folder: Path) -> Path:
    """Write a snapshot of collection `c` that ends too early."""
    path = folder / "c.snapshot"
    with path.open("wb") as file:
        snapshot.write(store.get("c"), file)
    path.write_bytes(path.read_bytes()[:-1])
    return path


@pytest.mark.parametrize("what", ["reencode", "restore"])
def test_an_attempt_that_fails_on_a_full_disk_can_be_repeated(
    what: str, store: Store, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it cannot be removed then, but must not take the name."""
    fill(store, "c", "old")
    path = broken_snapshot(store, tmp_path)

    def fail(*_: Any) -> None:
        raise Full("no room")

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "hide", fail)
        if what == "reencode":
            with pytest.raises(Full, match="from the encoder"):
                store.reencode("c", lambda _: fail_with("from the encoder"), 8)
        else:
            with pytest.raises(ValueError, match="ends too early"):
                snapshot.read(store, path, "back")
        store.settle()
    assert len(rows_of(database)["collections"]) == 2
    if what == "reencode":
        reencode(store)
        assert store.get("c").encoder == "new"
    else:
        with path.open("wb") as file:
            snapshot.write(store.get("c"), file)
        snapshot.read(store, path, "back")
        assert is_whole(store.get("back"), "old")
    store.settle()
    keys = {collection._state.key for collection in store.list()}
    assert set().union(*rows_of(database).values()) == keys


def fail_with(message: str) -> Any:
    raise Full(message)


def test_a_crash_in_the_removal_of_an_unfinished_collection_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "crash.db"
    with monkeypatch.context() as patch:
        patch.setattr(Maintenance, "delete", lambda *_: None)
        with opened(path) as (database, store):
            fill(store, "c", "old")
            for _ in range(2):
                with pytest.raises(Full):
                    store.reencode("c", lambda _: fail_with("no room"), 8)
            assert len(rows_of(database)["collections"]) == 3
    with opened(path) as (database, store):
        store.settle()
        (collection,) = store.list()
        assert is_whole(collection, "old")
        assert rows_of(database)["collections"] == {collection._state.key}


def test_the_name_of_a_collection_that_is_being_made_is_taken(store: Store) -> None:
    making: dict[str, Any] = {
        "encoder": "",
        "fingerprint": "",
        "descriptor_type": None,
        "metric": None,
    }
    with store.making("c", 8, **making):
        assert store.list() == []
        with pytest.raises(AlreadyExists, match="'c' is already being made"):
            store.create("c", 8)
        with (
            pytest.raises(AlreadyExists, match="'c' is already being made"),
            store.making("c", 8, **making),
        ):
            pass
    assert [collection.name for collection in store.list()] == ["c"]
    store.drop("c")
    with pytest.raises(Full), store.making("c", 8, **making):
        raise Full("no room")
    store.create("c", 8)


def test_descriptors_of_both_types_are_dropped(store: Store, database: Database) -> None:
    for kept, table in (("float16", "descriptors"), ("float32", "vectors")):
        collection = store.create("c", 8, keep_descriptors=cast(DescriptorType, kept))
        collection.upsert(IDS, CODES, descriptors=np.ones((200, 4)))
        assert database.read(f"SELECT count(*) FROM {table}") == [(200,)]
        store.drop("c")
        store.settle()
        assert database.read(f"SELECT count(*) FROM {table}") == [(0,)]
