"""`bitcell backup`: a copy of a whole data directory while the service runs, and its restore."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from app.service.data_dir import open_private
from app.service.files.backup import back_up
from app.service.keys import READ, Keys
from app.service.service import Service
from app.service.settings import Settings
from bitcell_client import Client
from hashing import make_hasher
from tests.app.conftest import without_effort
from tests.app.service_process import Process

X = np.random.default_rng(0).normal(size=(300, 8)).round(3)
ITEMS = [
    {"id": f"i{i}", "descriptor": x, "label": i % 3, "payload": {"n": i}}
    for i, x in enumerate(X.tolist())
]
TRAINED = make_hasher("itq", n_bits=8).fit(X)
QUERIES: list[dict[str, Any]] = [
    {"descriptors": X[:9].tolist(), "k": 20},
    {"descriptors": X[:9].tolist(), "k": 5, "rerank": 50, "rerank_by": "descriptors"},
    {"descriptors": X[:3].tolist(), "filter": {"label": 1, "n": {"lt": 100}}, "codes": True},
]
# Opens a data directory as another user, and prints what the service answers. The modules are
# loaded before, by a service of its own: the other user may not be allowed to read them.
RESTORE = """
import json, os, sys, tempfile
from pathlib import Path
from tests.app.asgi_client import TestClient
from app.main import create_app
from app.service.settings import Settings

data, calls, user = json.loads(sys.stdin.read())

def answers(folder, calls):
    settings = Settings(data_dir=folder, demo=False, allowed_hosts="testserver")
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        return [client.request(*call[:2], **call[2]).json() for call in calls]

with tempfile.TemporaryDirectory() as folder:
    answers(Path(folder), calls)
if user is not None:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
print(json.dumps([os.geteuid(), answers(Path(data), calls)]))
"""
NOBODY = 65534


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that every user may enter, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_backup_gives_the_same_answers_elsewhere_to_another_user(
    tmp_path: Path, elsewhere: Path
) -> None:
    data = tmp_path / "data"
    (data / "datasets").mkdir(parents=True)
    np.savez(data / "datasets" / "mine.npz", descriptors=X, labels=np.zeros(300, int))
    service = Process(data, BITCELL_DEMO="false")
    try:
        with Client(service.url) as bitcell:
            bitcell.upload_encoder("itq", TRAINED.to_bytes())
        new = {"name": "c", "encoder": "itq", "keep_descriptors": True}
        service.call("POST", "/v1/collections", new)
        service.call("PUT", "/v1/collections/c/items", {"items": ITEMS})
        made = service.call("POST", "/v1/collections/c/snapshots")["snapshot"]
        expected = [service.call("POST", "/v1/collections/c/query", query) for query in QUERIES]
        shown = service.call("GET", "/v1/encoders")
        with closing(Keys(data)) as keys:
            _, secret = keys.create("reader", READ)
        n_files, n_bytes = back_up(data, tmp_path / "backup")
        assert n_files == 5
        assert n_bytes > 100_000
    finally:
        service.stop()
    # What comes after the backup changes nothing in it.
    shutil.rmtree(data)
    restored = elsewhere / "restored"
    shutil.copytree(tmp_path / "backup", restored)
    user = None
    if os.geteuid() == 0:
        user = NOBODY
        for path in (restored, *restored.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    key = {"headers": {"Authorization": f"Bearer {secret}"}}
    calls: list[Any] = [["POST", "/v1/collections/c/query", key | {"json": q}] for q in QUERIES]
    for part in ("encoders", "snapshots", "datasets", "collections/c"):
        calls.append(["GET", f"/v1/{part}", key])
    calls.append(["GET", "/v1/collections", {}])
    calls.append(["PUT", "/v1/collections/c/items", key | {"json": {"items": ITEMS[:1]}}])
    run = subprocess.run(
        [sys.executable, "-c", RESTORE],
        cwd=Path(__file__).parents[3],  # Where `tests` is found.
        input=json.dumps([str(restored), calls, user]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    uid, answers = json.loads(run.stdout.splitlines()[-1])
    assert uid == (NOBODY if user else os.geteuid())
    found, (encoders, snapshots, datasets, collection, no_key, read_only) = answers[:3], answers[3:]
    assert list(map(without_effort, found)) == list(map(without_effort, expected))
    assert encoders == shown
    assert [one["snapshot"] for one in snapshots] == [made]
    assert "mine" in datasets
    assert (collection["items"], collection["descriptor_type"]) == (300, "float32")
    assert (no_key["status"], read_only["status"]) == (401, 403)


def batch(number: int) -> tuple[list[str], Any]:
    return [f"{number}-{i}" for i in range(20)], np.full((20, 4), number + 1.0)


def test_what_was_acknowledged_before_is_in_it_and_batches_are_whole(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", demo=False)
    acknowledged, stop, enough = [-1], Event(), Event()
    with closing(Service(settings)) as service:
        service.encoders.create("e", "lsh", 16, {}, dimension=4)
        service.collections.create("c", "e", keep_descriptors=True)

        def write() -> None:
            while not stop.is_set():
                number = acknowledged[0] + 1
                service.collections.upsert("c", *batch(number))
                acknowledged[0] = number
                if number % 10 == 9:
                    enough.set()

        writer = Thread(target=write)
        writer.start()
        before = []
        try:
            for i in range(3):
                assert enough.wait(30)
                enough.clear()
                before.append(acknowledged[0])
                back_up(settings.data_dir, tmp_path / f"backup{i}")
        finally:
            stop.set()
            writer.join()
    assert before[0] < before[1] < before[2]
    for i, least in enumerate(before):
        with closing(Service(Settings(data_dir=tmp_path / f"backup{i}", demo=False))) as again:
            collection = again.collections.get("c")
            n = len(collection) // 20
            assert n > least
            ids = [item_id for number in range(n) for item_id in batch(number)[0]]
            assert len(ids) == len(collection)
            kept = collection.descriptors(ids)
            assert np.array_equal(kept[:, 0], np.repeat(np.arange(n) + 1.0, 20))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory that no service has open, with what a backup leaves out."""
    settings = Settings(data_dir=tmp_path / "data", demo=False)
    with closing(Service(settings)) as service:
        service.encoders.create("e", "lsh", 16, {}, dimension=4)
        service.collections.create("c", "e")
        service.snapshots.write("c")
    folder = settings.data_dir
    (folder / "snapshots" / ".1.bitcell-partial").write_bytes(b"x")
    (folder / "downloads").mkdir()
    (folder / "downloads" / "cifar.tar.gz").write_bytes(b"x")
    (folder / "downloads" / "cifar.tar.gz.partial").write_bytes(b"x")
    (folder / ".bitcell-jobs").mkdir()
    (folder / ".bitcell-jobs" / "x").write_bytes(b"x")
    (folder / "notes.txt").write_text("not of Bitcell")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_only_what_bitcell_needs_is_copied_and_nobody_else_may_read_it(
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "backup").mkdir()
    open_private(data)
    back_up(data, tmp_path / "backup")
    found = names(tmp_path / "backup")
    assert [name for name in found if not name.startswith("snapshots/")] == [
        "bitcell.db",
        "downloads/cifar.tar.gz",
    ]
    assert len(found) == 3
    for path in (tmp_path / "backup", *(tmp_path / "backup").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "data"]


def damage(data: Path, tmp_path: Path) -> None:
    record = bytearray((data / "bitcell.db").read_bytes())
    record[4096:8192] = bytes(4096)
    (data / "bitcell.db").write_bytes(record)


def no_database(data: Path, tmp_path: Path) -> None:
    (data / "bitcell.db").write_bytes(b"no database" * 1000)


def full(data: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "x").touch()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage, "is damaged|cannot be copied"),
        (no_database, "cannot be copied: file is not a database"),
        (full, "is not empty"),
    ],
)
def test_a_backup_that_fails_leaves_nothing(
    spoil: Any, message: str, data: Path, tmp_path: Path
) -> None:
    spoil(data, tmp_path)
    before = names(tmp_path)
    with pytest.raises((ValueError, OSError), match=message) as raised:
        back_up(data, tmp_path / "backup")
    assert "\n" not in str(raised.value)
    assert names(tmp_path) == before


def test_a_target_that_cannot_be_used_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for target, message in (
        (data / "x", "is inside"),
        (tmp_path / "none" / "x", "there is no folder"),
        (tmp_path / "file", "is a file"),
    ):
        with pytest.raises(ValueError, match=message):
            back_up(data, target)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: (1, 1, 1))
    monkeypatch.setattr("app.service.files.backup.shutil.disk_usage", lambda _: _Disk())
    with pytest.raises(OSError, match=r"the copy needs [\d,]+ bytes, and 10 are free"):
        back_up(data, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


class _Disk:
    free = 10


def test_a_long_copy_sees_one_state_although_the_service_writes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write to the record would make SQLite begin again, and the copy might never end."""
    monkeypatch.setattr("app.service.files.backup._PAGES", 1)
    steps = 0
    with closing(Service(Settings(data_dir=data, demo=False))) as service:

        def write(*_: object) -> None:
            nonlocal steps
            steps += 1
            if steps < 30:
                service.collections.upsert("c", [f"{steps}"], np.ones((1, 4)))

        pages = (data / "bitcell.db").stat().st_size // 4096
        back_up(data, tmp_path / "backup", write)
        assert 5 < steps < 2 * pages + 20
        assert len(service.collections.get("c")) > 5
    with closing(sqlite3.connect(tmp_path / "backup" / "bitcell.db")) as copy:
        assert copy.execute("SELECT items FROM collections").fetchall() == [(0,)]
