"""The file shrinks after drops, whatever version made it and whenever the process ends."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from index import Database, Full, SearchOptions, Store, Unreadable
from index.maintenance import Maintenance
from index.storage import shrink
from tests.index.conftest import opened

N = 2000
CODES = np.random.default_rng(0).integers(0, 256, (N, 8), np.uint8)
IDS = [f"{i}" for i in range(N)]
PAYLOADS = [{"text": "x" * 1500} for _ in range(N)]


def fill(store: Store, name: str, n: int = N) -> None:
    store.create(name, 64).upsert(IDS[:n], CODES[:n], None, PAYLOADS[:n])


def size(path: Path) -> int:
    """Return the bytes of the file and its log."""
    return sum(file.stat().st_size for file in path.parent.iterdir())


def is_sound(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


def answers(store: Store, name: str) -> list[str]:
    found = store.get(name).search(CODES[:3], SearchOptions(20))
    return [near.id for each in found for near in each.neighbours]


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A half empty file as an earlier version made it, with a collection `kept`."""
    path = tmp_path / "old.db"
    with monkeypatch.context() as earlier:
        earlier.setattr(shrink, "choose_mode", lambda _: None)
        with opened(path) as (_, store):
            fill(store, "dropped")
            fill(store, "kept", 500)
            store.drop("dropped")
            store.settle()
    return path


def test_a_drop_returns_its_space(tmp_path: Path) -> None:
    path = tmp_path / "bitcell.db"
    with opened(path) as (_, store):
        # The pages of the one that stays are at the end of the file, and must move.
        fill(store, "dropped")
        fill(store, "kept", 200)
        store.settle()
        expected, before = answers(store, "kept"), path.stat().st_size
        store.drop("dropped")
        store.settle()
        assert path.stat().st_size < before / 5
        assert answers(store, "kept") == expected
    assert is_sound(path)
    with opened(path) as (_, store):
        assert answers(store, "kept") == expected


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_stop_while_it_shrinks_loses_nothing(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bitcell.db"
    with monkeypatch.context() as stopped:
        stopped.setattr(Maintenance, "shrink", lambda *_: None)
        with opened(path) as (database, store):
            fill(store, "dropped")
            fill(store, "kept", 200)
            expected = answers(store, "kept")
            store.drop("dropped")
            store.settle()
            for _ in range(steps):
                assert database.shrink(30)
    assert is_sound(path)
    with opened(path) as (_, store):
        store.settle()
        assert path.stat().st_size < 1 << 20
        assert answers(store, "kept") == expected


def test_a_full_disk_leaves_the_file_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bitcell.db"

    def full(connection: sqlite3.Connection, pages: int) -> bool:
        raise Full("no room")

    with opened(path) as (_, store):
        fill(store, "dropped")
        fill(store, "kept", 200)
        with monkeypatch.context() as no_room:
            no_room.setattr(shrink, "cut_some", full)
            store.drop("dropped")
            store.settle()
        before = size(path)
        # The next maintenance tries again.
        store.create("new", 8)
        store.settle()
        assert size(path) < before / 2


def test_a_half_empty_file_of_an_earlier_version_shrinks_at_start(old: Path) -> None:
    before = old.stat().st_size
    with opened(old) as (database, store):
        assert old.stat().st_size < before / 2
        assert len(store.get("kept")) == 500
        expected = answers(store, "kept")
        # From now on it shrinks while it is used.
        fill(store, "again")
        store.drop("again")
        store.settle()
        assert size(old) < before / 2
        assert database.read("PRAGMA auto_vacuum") == [(2,)]
    assert is_sound(old)
    with opened(old) as (_, store):
        assert answers(store, "kept") == expected


def test_without_room_for_a_copy_it_is_used_as_it_is(
    old: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = old.stat().st_size
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 16}))
    with opened(old) as (_, store):
        assert len(store.get("kept")) == 500
        assert old.stat().st_size == before
    assert "is half empty" in caplog.text


@pytest.mark.parametrize("sql", ["CREATE TABLE notes (text)", "CREATE TABLE collections (x)"])
def test_the_database_of_another_program_is_refused_unchanged(sql: str, tmp_path: Path) -> None:
    path = tmp_path / "bitcell.db"
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.close()
    with pytest.raises(Unreadable, match="of another program"):
        Database(path)
    connection = sqlite3.connect(path)
    (names,) = connection.execute("SELECT group_concat(name) FROM sqlite_schema").fetchone()
    connection.close()
    assert names == sql.split()[2]


def test_tables_with_other_columns_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "bitcell.db"
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE collections (x); PRAGMA user_version = 2")
    connection.close()
    database = Database(path)
    try:
        with pytest.raises(Unreadable, match="is damaged: no such column"):
            Store(database)
    finally:
        database.close()
