"""A reserve of the disk stays free, and snapshots have a quota."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier, Thread
from typing import Any, NamedTuple

import numpy as np
import pytest

from app.main import create_app
from app.service import room
from app.service.collections import snapshots
from app.service.settings import Settings
from hashing import make_hasher
from index import Collection, Full, snapshot
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, contents_of, fill, npy, settings_in
from tests.app.jobs.waiting import ended
from tests.app.problems import assert_problem

SNAPSHOTS = "/v1/collections/c/snapshots"
X = np.random.default_rng(0).normal(size=(60, 4))
ITEM = {"id": "x", "descriptor": [1, 2, 3, 4]}
ENCODER_FILE = make_hasher("lsh", n_bits=12).fit(np.eye(4)).to_bytes()
TRAINING = {"name": "t", "method": "itq", "n_bits": 2}
WRITES: list[tuple[str, str, Any]] = [
    ("PUT", "/v1/collections/c/items", {"items": [ITEM]}),
    ("POST", SNAPSHOTS, None),
    ("POST", "/v1/collections/d/restore", {"snapshot": "c.snapshot"}),
    ("PUT", "/v1/encoders/f", ENCODER_FILE),
    ("PUT", "/v1/snapshots/new", b"Bitcell snapshot 2"),
    ("POST", "/v1/encoders", {"name": "g", "method": "lsh", "n_bits": 8, "dimension": 4}),
    ("POST", "/v1/encoders", TRAINING | {"training": {"descriptors": X.tolist()}}),
]


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Return a function that sets how many bytes of a disk of one terabyte are free."""

    def set_free(n: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(1 << 40, (1 << 40) - n, n))

    yield set_free
    monkeypatch.undo()


def request(client: TestClient, method: str, path: str, body: Any) -> Any:
    given = {"content": body} if isinstance(body, bytes) else {"json": body}
    return client.request(method, path, **(given if body else {}))


def test_large_writes_leave_the_reserve_free_and_small_ones_may_use_it(
    small: TestClient, settings: Settings, free: Callable[[int], None]
) -> None:
    folder = settings.data_dir / "snapshots"
    file = small.post(SNAPSHOTS).json()["snapshot"]
    (folder / file).rename(folder / "c.snapshot")
    before = contents_of(small)
    free((256 << 20) - 1)
    for method, path, body in WRITES:
        answer = request(small, method, path, body)
        assert_problem(answer, 507, "at least 268,435,456 must be")
        assert "BITCELL_DISK_RESERVE" in answer.json()["detail"]
    assert contents_of(small) == before
    assert [path.name for path in folder.iterdir()] == ["c.snapshot"]
    assert small.get("/v1/jobs").json() == []
    assert small.delete("/v1/collections/c/items/a").status_code == 204
    assert small.post("/v1/collections/c/items/delete", json={"ids": ["b"]}).status_code == 200
    assert small.delete("/v1/collections/c").status_code == 204
    assert small.delete("/v1/encoders/e").status_code == 204
    free(300 << 20)
    assert request(small, *WRITES[3]).status_code == 201


def test_jobs_do_not_copy_into_the_reserve(
    client: TestClient, settings: Settings, free: Callable[[int], None]
) -> None:
    fill(client)
    client.post("/v1/encoders", json={"name": "f", "method": "lsh", "n_bits": 8, "dimension": 4})
    client.post("/v1/collections", json={"name": "k", "encoder": "e", "keep_descriptors": True})
    ids = np.array([f"{i}" for i in range(60)])
    client.put("/v1/collections/k/items", content=npy(X, ids), headers=NPY)
    free(1000)
    for path, body in (
        ("/v1/encoders", TRAINING | {"training": {"collection": "k"}}),
        ("/v1/collections/k/reencode", {"encoder": "f"}),
    ):
        job = client.post(path, json=body).json()["id"]
        shown = ended(client, job)
        assert shown["state"] == "failed"
        assert "1,000 bytes are free" in shown["error"]
    assert client.get("/v1/collections/k").json()["encoder"] == "e"


def test_a_small_disk_has_a_small_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(1000, 900, 100))
    room.check_room(settings)
    room.check_room(settings, 50)
    with pytest.raises(Full, match=r"100 bytes are free .* 50 must be after 51 more bytes"):
        room.check_room(settings, 51)


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[TestClient]:
    """A service whose snapshots may take 5,000 bytes; one of its collection takes some 1,000."""
    settings = settings_in(tmp_path).model_copy(update={"max_snapshots": 5000})
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        fill(client)
        yield client


def test_snapshots_beyond_the_quota_are_refused(limited: TestClient, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "snapshots"
    while (answer := limited.post(SNAPSHOTS)).status_code == 201:
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 5000
    files = sorted(folder.iterdir())
    assert len(files) > 3
    assert_problem(answer, 507, "would take more than 5,000 bytes")
    assert "BITCELL_MAX_SNAPSHOTS" in answer.json()["detail"]
    assert sorted(folder.iterdir()) == files
    files[0].unlink()
    assert limited.post(SNAPSHOTS).status_code == 201


def test_one_snapshot_beyond_the_quota_leaves_nothing(
    limited: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.array([f"{i}" for i in range(500)])
    put = limited.put("/v1/collections/c/items", content=npy(np.ones((500, 4)), ids), headers=NPY)
    assert put.status_code == 200
    sizes = []
    write = room.LimitedFile.write

    def noted(self: room.LimitedFile, data: bytes) -> int:
        sizes.append(len(data))
        return write(self, data)

    monkeypatch.setattr(room.LimitedFile, "write", noted)
    assert_problem(limited.post(SNAPSHOTS), 507, "the others take 0")
    assert len(sizes) == 4  # The first line, the description, the encoder, and the items.
    assert list((tmp_path / "data" / "snapshots").iterdir()) == []


def test_too_many_snapshots_at_a_time_are_refused(
    small: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Barrier(snapshots.AT_ONCE + 1)
    write, statuses = snapshot.write, []

    def wait_and_write(collection: Collection, file: Any, encoder: bytes | None) -> int:
        together.wait(30)
        together.wait(30)
        return write(collection, file, encoder)

    monkeypatch.setattr(snapshot, "write", wait_and_write)
    threads = [
        Thread(target=lambda: statuses.append(small.post(SNAPSHOTS).status_code))
        for _ in range(snapshots.AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    together.wait(30)
    refused = small.post(SNAPSHOTS)
    assert_problem(refused, 503, "snapshots are being written, uploaded or restored")
    assert_problem(small.put("/v1/snapshots/x", content=b"x"), 503, "being written, uploaded")
    assert refused.headers["Retry-After"]
    together.wait(30)
    for thread in threads:
        thread.join()
    assert statuses == [201] * snapshots.AT_ONCE
    monkeypatch.setattr(snapshot, "write", write)
    assert small.post(SNAPSHOTS).status_code == 201
