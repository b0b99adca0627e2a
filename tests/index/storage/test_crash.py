"""Kills, full disks and damage: nothing that was acknowledged is lost unnoticed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from bitcodes import to_words
from index import Collection, Damaged, Database, Full, SearchOptions, Store
from index.maintenance import maintain
from tests.index.conftest import opened

Use = Callable[[Database], Any]

# Four clients write batches of ten items: new ones, replacements and patches of the last, and
# deletions of the one before, by id or by filter. They print each write after it was acknowledged.
CLIENTS = """
import sys
from pathlib import Path
from threading import Lock, Thread
import numpy as np
from index import Database, Filter, Store
database = Database(Path(sys.argv[1]))
store = Store(database)
names = [c.name for c in store.list()]
c = store.get("c") if "c" in names else store.create("c", 8)
start, lock = int(sys.argv[2]), Lock()
print("ready", len(c), flush=True)
def say(*words):
    with lock:
        print(*words, flush=True)
def client(me):
    for batch in range(start, 10**9):
        ids = [f"{me}-{batch}-{i}" for i in range(10)]
        c.upsert(ids, np.zeros((10, 1), np.uint8), [0] * 10, [{"v": 0}] * 10)
        say("put", me, batch, 0)
        c.upsert(ids, np.ones((10, 1), np.uint8), [1] * 10, [{"v": 1}] * 10)
        say("put", me, batch, 1)
        c.patch(ids, [{"label": 2, "payload": {"w": 2}}] * 10)
        say("put", me, batch, 2)
        if batch % 3 == 2:
            before = [f"{me}-{batch - 1}-{i}" for i in range(10)]
            if batch % 2:
                c.delete(before)
            else:
                # A batch of an earlier process may be missing, or not be patched yet.
                where = {"id": {"in": before}} | ({"w": 2} if batch > start else {})
                n = c.delete_matching(Filter(where))
                assert n == 10 or batch == start
            say("gone", me, batch - 1, 0)
for me in range(4):
    Thread(target=client, args=(me,)).start()
"""


class Killed:
    """A database whose clients are killed again and again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rng = np.random.default_rng(0)
        self.acknowledged: dict[tuple[int, int], int] = {}
        self.deleted: set[tuple[int, int]] = set()
        self.next = 0

    def round(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", CLIENTS, str(self.path), str(self.next)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        assert process.stdout.readline().startswith("ready")
        for _ in range(int(self.rng.integers(1, 60))):
            self.note(process.stdout.readline())
        # Kill not only right after an acknowledgement but anywhere between two.
        time.sleep(float(self.rng.random()) * 0.003)
        os.kill(process.pid, signal.SIGKILL)
        for line in process.stdout:
            if line.endswith("\n"):
                self.note(line)
        process.stdout.close()
        process.wait()
        self.check()

    def note(self, line: str) -> None:
        what, me, batch, version = line.split()
        key = int(me), int(batch)
        if what == "put":
            self.acknowledged[key] = int(version)
        else:
            self.deleted.add(key)
        self.next = max(self.next, key[1] + 1)

    def check(self) -> None:
        database = Database(self.path)
        store = Store(database)
        found: dict[tuple[int, int], list[int]] = {}
        collection = store.get("c")
        for item in collection.items(0, len(collection))[0]:
            me, batch, _ = map(int, item.id.split("-"))
            (code,), version = item.code, item.label
            assert version is not None
            assert code == min(version, 1)
            assert item.payload == {"v": code} | ({"w": 2} if version == 2 else {})
            found.setdefault((me, batch), []).append(version)
        store.close()
        database.close()
        for values in found.values():
            assert len(values) == 10
            assert len(set(values)) == 1
        for key, version in self.acknowledged.items():
            if key in self.deleted:
                assert key not in found
            elif key in found:
                assert found[key][0] >= version
            else:
                # Its deletion may have been written but not acknowledged.
                assert (key[0], key[1] + 1) in self.acknowledged
                self.deleted.add(key)
        self.next = max([self.next, *(batch + 1 for _, batch in found)])


def test_what_was_acknowledged_to_several_clients_survives_kills(tmp_path: Path) -> None:
    killed = Killed(tmp_path / "bitcell.db")
    for _ in range(4):
        killed.round()
    assert len(killed.acknowledged) > 20


@pytest.mark.slow
def test_100_kills(tmp_path: Path) -> None:
    killed = Killed(tmp_path / "bitcell.db")
    for _ in range(100):
        killed.round()
    assert len(killed.acknowledged) > 1000


def writes_stop_and_go_on(path: Path, use_up: Use, make_room: Use) -> None:
    """Write until there is no room, make room, write again: nothing is lost."""
    with opened(path) as (database, store):
        use_up(database)
        collection = store.create("c", 64)
        fill(collection)
        kept = len(collection)
        make_room(database)
        collection.upsert(["late"], np.zeros((1, 8), np.uint8))
    with opened(path) as (_, store):
        assert len(store.get("c")) == kept + 1


def fill(collection: Collection) -> None:
    """Write until there is no room."""
    rng = np.random.default_rng(0)
    kept = 0
    codes = rng.integers(0, 256, (2000, 8), np.uint8)
    with pytest.raises(Full, match="could not be written"):  # noqa: PT012
        for kept in range(0, 2_000_000, 2000):
            collection.upsert([f"{kept + i}" for i in range(2000)], codes)
    assert kept
    assert len(collection) == kept
    near = collection.search(codes[:1], SearchOptions(3))[0].neighbours
    assert [n.distance for n in near] == [0, 0, 0][: kept // 2000] + [n.distance for n in near][
        kept // 2000 :
    ]
    with pytest.raises(Full):
        collection.upsert([f"more-{i}" for i in range(20_000)], np.tile(codes, (10, 1)))
    assert len(collection) == kept


def test_a_full_disk_is_reported_and_writes_succeed_when_there_is_room(tmp_path: Path) -> None:
    def use_up(database: Database) -> None:
        # SQLite's own limit on the size of the file gives the error of a full disk.
        pages = database.read("PRAGMA page_count")[0][0]
        database._connection.execute(f"PRAGMA max_page_count = {pages + 200}")

    def make_room(database: Database) -> None:
        database._connection.execute("PRAGMA max_page_count = 1000000")

    writes_stop_and_go_on(tmp_path / "bitcell.db", use_up, make_room)


@pytest.mark.slow
def test_a_full_tmpfs(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("crash: run as root, where a tmpfs can be mounted")
    ballast = folder / "ballast"
    try:
        writes_stop_and_go_on(
            folder / "bitcell.db",
            lambda _: ballast.write_bytes(bytes(1 << 20)),
            lambda _: ballast.unlink(),
        )
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("what", ["parts", "deaths", "payloads"])
def test_damage_is_found_and_reported(what: str, tmp_path: Path) -> None:
    path = tmp_path / "bitcell.db"
    database = Database(path)
    store = Store(database)
    collection = store.create("c", 8)
    ids = [f"{i}" for i in range(50)]
    collection.upsert(ids, np.zeros((50, 1), np.uint8), None, [{"text": "a" * 20}] * 50)
    collection.delete(ids[:5])
    store.close()
    database.close()
    column = {"parts": "data", "deaths": "serials", "payloads": "payload"}[what]
    connection = sqlite3.connect(path)
    ((data,),) = connection.execute(f"SELECT {column} FROM {what} LIMIT 1 OFFSET 0").fetchall()
    changed = data.replace("a", "b") if what == "payloads" else bytes([data[0] ^ 1]) + data[1:]
    if what == "payloads":
        connection.execute("UPDATE payloads SET payload = ? WHERE serial = 10", (changed,))
    else:
        connection.execute(f"UPDATE {what} SET {column} = ?", (changed,))
    connection.commit()
    connection.close()
    database = Database(path)
    with pytest.raises(Damaged, match=r"bitcell\.db is damaged: .*restore it from a copy"):
        Store(database).get("c").get("10")
    database.close()


def test_version_1_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "bitcell.db"
    old = sqlite3.connect(path)
    old.executescript(
        """
        CREATE TABLE collections (key INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
            n_bits INTEGER NOT NULL, encoder TEXT NOT NULL, fingerprint TEXT NOT NULL) STRICT;
        CREATE TABLE items (collection INTEGER NOT NULL REFERENCES collections (key)
            ON DELETE CASCADE, id TEXT NOT NULL, code BLOB NOT NULL, label INTEGER, payload TEXT,
            PRIMARY KEY (collection, id)) STRICT, WITHOUT ROWID;
        INSERT INTO collections (name, n_bits, encoder, fingerprint) VALUES ('a', 12, 'e', 'f');
        INSERT INTO collections (name, n_bits, encoder, fingerprint) VALUES ('b', 8, '', '');
        INSERT INTO items VALUES (1, 'x', x'A0F0', 3, '{"p":[1]}'), (1, 'ü', x'0000', NULL, NULL);
        PRAGMA user_version = 1;
        """
    )
    old.close()
    for _ in range(2):
        database = Database(path)
        store = Store(database)
        a, b = store.get("a"), store.get("b")
        assert (a.n_bits, a.encoder, a.fingerprint, len(a), len(b)) == (12, "e", "f", 2, 0)
        x, u = a.get("x"), a.get("ü")
        assert (x.code, x.label, x.payload) == (b"\xa0\xf0", 3, {"p": [1]})
        assert (u.code, u.label, u.payload) == (b"\x00\x00", None, None)
        store.close()
        database.close()


def test_the_record_stays_small_under_many_small_writes(tmp_path: Path) -> None:
    database = Database(tmp_path / "bitcell.db")
    store = Store(database)
    collection = store.create("c", 64)
    codes = np.random.default_rng(0).integers(0, 256, (3000, 8), np.uint8)

    def client(me: int) -> None:
        for i in range(400):
            collection.upsert([f"{me}-{i % 150}"], codes[i : i + 1], None, [{"i": i}])

    clients = [Thread(target=client, args=(me,)) for me in range(4)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    store.settle()
    (parts,) = database.read("SELECT count(*) FROM parts")[0]
    assert parts < 100
    maintain(collection._state)
    for me in range(4):
        for i in range(150):
            last = i + 300 if i < 100 else i + 150
            item = collection.get(f"{me}-{i}")
            assert item.payload == {"i": last}
            assert item.code == codes[last].tobytes()
            assert (
                to_words(codes[last : last + 1]) == to_words(collection.codes([f"{me}-{i}"]))
            ).all()
    store.close()
    database.close()
