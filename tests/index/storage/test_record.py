"""Items on disk survive restarts and kills, and batches are written as a whole."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from index import (
    AlreadyExists,
    Damaged,
    Database,
    InvalidItems,
    NotFound,
    SearchOptions,
    Store,
    Unreadable,
)
from index.memory.rows import Rows
from index.storage.record import Record

CODES = np.arange(6, dtype=np.uint8).reshape(-1, 1)
IDS = list("abcdef")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "bitcell.db"


class Opened:
    """A store that is open during a `with` block."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Store:
        self.database = Database(self.path)
        self.store = Store(self.database)
        return self.store

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self.database.close()


def contents(store: Store, name: str = "c") -> dict[str, tuple[Any, ...]]:
    collection = store.get(name)
    near = collection.search(CODES[:1], SearchOptions(100))[0].neighbours
    return {n.id: (n.distance, n.label, n.payload) for n in near}


def test_everything_survives_a_restart(path: Path) -> None:
    with Opened(path) as store:
        collection = store.create("c", 8, encoder="e", fingerprint="f")
        collection.upsert(IDS, CODES, range(6), [{"i": i} for i in range(6)])
        collection.upsert(["b", "x"], CODES[:2], [None, 9])
        collection.delete(["a", "nobody", "a"])
        store.create("empty", 12)
        before = contents(store)
    with Opened(path) as store:
        assert [c.name for c in store.list()] == ["c", "empty"]
        collection = store.get("c")
        assert (collection.n_bits, collection.encoder, collection.fingerprint) == (8, "e", "f")
        assert contents(store) == before
        assert sorted(before) == ["b", "c", "d", "e", "f", "x"]
        assert collection.get("b").label is None
        assert collection.get("b").payload is None
        assert collection.get("f").payload == {"i": 5}


def test_payloads_of_a_later_write_are_found(path: Path) -> None:
    with Opened(path) as store:
        collection = store.create("c", 8)
        collection.upsert(IDS, CODES, None, [None] * 6)
        assert {payload for _, _, payload in contents(store).values()} == {None}
        collection.upsert(["b"], CODES[1:2], None, [{"late": True}])
        assert contents(store)["b"][2] == {"late": True}
    with Opened(path) as store:
        assert contents(store)["b"][2] == {"late": True}
        assert contents(store)["a"][2] is None


def test_pages_of_items_stay_the_same_while_nothing_is_written(path: Path) -> None:
    ids = [f"{i * 7919 % 1000:03}" for i in range(1000)]
    with Opened(path) as store:
        collection = store.create("c", 8)
        collection.upsert(ids[:600], np.zeros((600, 1), np.uint8))
        store.settle()
        collection.upsert(ids[600:], np.zeros((400, 1), np.uint8))
        collection.delete(ids[::3])
        first, n_items = collection.items(0, 300)
        store.settle()
        second, _ = collection.items(300, 400)
        left = [item_id for i, item_id in enumerate(ids) if i % 3]
        assert n_items == len(left)
        assert [item.id for item in first + second] == left


def test_a_dropped_collection_is_gone(path: Path) -> None:
    with Opened(path) as store:
        collection = store.create("c", 8)
        collection.upsert(IDS, CODES)
        store.drop("c")
        calls: list[Any] = [
            lambda: store.get("c"),
            lambda: store.drop("c"),
            lambda: collection.upsert(IDS, CODES),
            lambda: collection.delete(IDS),
            lambda: collection.get("a"),
            lambda: collection.search(CODES, SearchOptions(1)),
        ]
        for call in calls:
            with pytest.raises(NotFound, match="no collection 'c'"):
                call()
        assert len(store.create("c", 16)) == 0
    with Opened(path) as store:
        assert store.get("c").n_bits == 16
        assert len(store.get("c")) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["a", "b", "a"]}, "'a' occurs twice"),
        ({"ids": ["a", "", "c"]}, "item 1 is ''"),
        ({"ids": ["a", "b", "c" * 257]}, "1 to 256 characters; that of item 2"),
        ({"ids": ["a", "b", 3.0]}, "that of item 2 is 3.0"),
        ({"ids": ["a", "b", "\ud800"]}, "printable characters only; item 2"),
        ({"ids": ["a", "b", "\x00"]}, "printable characters only; item 2"),
        ({"ids": ["a", "b", ".."]}, "no part '.' or '..'"),
        ({"ids": ["a", "b", "x/./y"]}, "no part '.' or '..'"),
        ({"ids": ["a", "b"]}, r"shape \(2, 1\), got uint8 of shape \(3, 1\)"),
        ({"codes": CODES[:3].astype(int)}, "got int64"),
        ({"labels": [1, 2]}, "expected 3 labels"),
        ({"labels": [1, 2, -2]}, "item 2 is -2"),
        ({"labels": [1, 2, 2**63]}, "2\\*\\*63 - 1"),
        ({"payloads": [None]}, "expected 3 payloads"),
        ({"payloads": [None, {"a": float("nan")}, None]}, "item 1 is not JSON"),
        ({"payloads": [None, None, {"a": "x" * 70_000}]}, "that of item 2 has 70008"),
    ],
)
def test_a_bad_batch_changes_nothing(change: dict[str, Any], message: str, path: Path) -> None:
    batch: Any = {"ids": ["a", "b", "new"], "codes": CODES[3:]} | change
    with Opened(path) as store:
        collection = store.create("c", 8)
        collection.upsert(["a", "b"], CODES[:2])
        before = contents(store)
        with pytest.raises(InvalidItems, match=message):
            collection.upsert(**batch)
        assert contents(store) == before
    with Opened(path) as store:
        assert contents(store) == before


def test_names_are_checked_and_given_once(path: Path) -> None:
    with Opened(path) as store:
        store.create("A.b-c_9", 8)
        with pytest.raises(AlreadyExists, match=r"already a collection 'A\.b-c_9'"):
            store.create("A.b-c_9", 8)
        for name in ("", "a/b", "..", "a b", "x" * 65, "a\n", "é"):
            with pytest.raises(InvalidItems, match="a name has"):
                store.create(name, 8)
        with pytest.raises(InvalidItems, match="n_bits must be from 1 to 65536"):
            store.create("zero", 0)
        assert len(store.list()) == 1


def test_a_second_process_is_refused(path: Path) -> None:
    with Opened(path):
        code = (
            f"from pathlib import Path; from index import Database; Database(Path({str(path)!r}))"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another process" in run.stderr
        assert run.returncode


def test_a_damaged_or_newer_file_is_refused_by_name(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(Damaged, match=r"bitcell\.db is damaged"):
        Database(path)
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Unreadable, match="has version 99; the newest known here is 4"):
        Database(path)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from index import Database, Store
collection = Store(Database(Path(sys.argv[1]))).create("c", 8)
for batch in range(10**9):
    ids = [f"{batch}-{i}" for i in range(50)]
    collection.upsert(ids, np.zeros((50, 1), np.uint8))
    print(batch, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout
    acknowledged = [int(writer.stdout.readline()) for _ in range(20)]
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout if line.endswith("\n")]
    writer.stdout.close()
    writer.wait()
    with Opened(path) as store:
        collection = store.get("c")
        for batch in acknowledged:
            collection.codes([f"{batch}-{i}" for i in range(50)])
        # One more batch may have been written, but never in part.
        assert len(collection) % 50 == 0
        assert len(collection) - 50 * len(acknowledged) in (0, 50)


def test_a_search_sees_a_batch_whole_or_not_at_all(path: Path) -> None:
    with Opened(path) as store:
        collection = store.create("c", 8)
        collection.upsert(IDS, CODES)

        def write() -> None:
            for round_ in range(1, 100):
                collection.upsert(IDS, np.full((6, 1), round_ % 251, np.uint8), [round_] * 6)

        writer = Thread(target=write)
        writer.start()
        mixed = []
        while writer.is_alive():
            near = collection.search(CODES[:1], SearchOptions(6))[0].neighbours
            if len({(n.label, n.distance) for n in near if n.label is not None}) > 1:
                mixed.append(near)
        writer.join()
        assert mixed == []


def test_a_failed_write_changes_neither_memory_nor_disk(path: Path) -> None:
    with Opened(path) as store:
        collection = store.create("c", 8)
        collection.upsert(IDS, CODES)
        before = contents(store)
        # Fail in the middle of a batch, as a full disk would.
        with store._database.transaction() as connection:
            connection.execute(
                "CREATE TRIGGER no_room BEFORE INSERT ON deaths "
                "BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
        with pytest.raises(sqlite3.IntegrityError, match="full"):
            collection.upsert([*IDS[::-1], "new"], np.arange(7, dtype=np.uint8)[:, None])
        with pytest.raises(sqlite3.IntegrityError, match="full"):
            collection.delete(IDS)
        assert contents(store) == before
    with Opened(path) as store:
        assert contents(store) == before


@pytest.mark.parametrize("broken", [(Record, "_count"), (Rows, "stage"), (Rows, "stage_deletion")])
def test_a_write_that_fails_midway_is_undone_alone(
    broken: tuple[type, str], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    with Opened(path) as store:
        collection = store.create("c", 8)
        collection.upsert(IDS, CODES)
        with monkeypatch.context() as patch:
            patch.setattr(*broken, fail)
            writes: tuple[Callable[[], object], ...] = (
                lambda: collection.upsert(["a", "new"], CODES[:2]),
                lambda: collection.delete(["b"]),
            )
            failed = 0
            for write in writes:
                try:
                    write()
                except MemoryError:
                    failed += 1
            assert failed == (2 if broken[1] == "_count" else 1)
        collection.upsert(["z"], CODES[:1])
        before = contents(store)
        state = collection._state
        record, (view, rows) = state.record, state.live()
        assert not np.isin(view.serials(rows), record._dead_serials()).any()
        parts = record.database.read("SELECT first, n FROM parts ORDER BY first")
        assert record._parts == parts
    with Opened(path) as store:
        assert contents(store) == before


def test_every_commit_is_synced(path: Path) -> None:
    with Opened(path) as store:
        assert store._database.read("PRAGMA synchronous") == [(2,)]
        assert store._database.read("PRAGMA journal_mode") == [("wal",)]


def test_codes_with_padding_bits_are_refused(path: Path) -> None:
    with Opened(path) as store:
        collection = store.create("c", 4)
        with pytest.raises(InvalidItems, match="bits set beyond their 4 bits"):
            collection.upsert(["a"], np.array([[0b00001000]], np.uint8))


def test_writers_that_wait_share_one_commit(path: Path) -> None:
    with Opened(path) as store:
        collection = store.create("c", 8)
        store.settle()
        database = store._database
        commits: list[str] = []
        database._connection.set_trace_callback(
            lambda sql: commits.append(sql) if sql == "COMMIT" else None
        )

        def write(i: int) -> None:
            # All of them write one id, and one of them is refused, which harms no other.
            if i == 5:
                with pytest.raises(InvalidItems):
                    collection.upsert(["x"], CODES[:1], None, None, CODES[:1])
            else:
                collection.upsert(["same", f"own-{i}"], CODES[:2], [i, i])

        with database.exclusive():
            writers = [Thread(target=write, args=(i,)) for i in range(12)]
            for writer in writers:
                writer.start()
            while len(database._waiting) < 11:
                pass
        for writer in writers:
            writer.join()
        database._connection.set_trace_callback(None)
        assert len(commits) == 1
        assert len(collection) == 12
    with Opened(path) as store:
        assert len(store.get("c")) == 12
