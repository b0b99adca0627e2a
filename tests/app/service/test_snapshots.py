"""Snapshots of the service and the encoders that they need."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any, BinaryIO

import numpy as np
import pytest

from app.main import create_app
from app.service.encoder_store import EncoderStore
from app.service.service import Service
from app.service.settings import Settings
from hashing import make_hasher
from index import Collection, snapshot
from index.storage.record import Record
from tests.app.asgi_client import TestClient
from tests.app.conftest import settings_in
from tests.app.jobs.waiting import ended
from tests.index import snapshot_blocks

COLLECTION = "/v1/collections/c"
QUERY = {"descriptors": [[1, 2, 3, 4]], "k": 10}


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def write_snapshot_and_drop(client: TestClient) -> str:
    file: str = client.post(f"{COLLECTION}/snapshots").json()["snapshot"]
    assert client.delete(COLLECTION).status_code == 204
    return file


def without_encoder(path: Path) -> None:
    """Make a snapshot one of the version before, which holds no encoder."""
    about, _, *items = snapshot_blocks.split(path.read_bytes())
    changed = json.loads(about)
    del changed["descriptor_type"], changed["has_encoder"]
    path.write_bytes(snapshot_blocks.join([json.dumps(changed).encode(), *items], version=1))


def test_a_snapshot_of_an_earlier_version_needs_its_encoder(
    small: TestClient, settings: Settings
) -> None:
    before = small.post(f"{COLLECTION}/query", json=QUERY).json()["results"]
    file = write_snapshot_and_drop(small)
    without_encoder(settings.data_dir / "snapshots" / file)
    restored = small.post("/v1/collections/d/restore", json={"snapshot": file})
    assert restored.status_code == 201
    assert small.post("/v1/collections/d/query", json=QUERY).json()["results"] == before
    small.delete("/v1/collections/d")
    assert small.delete("/v1/encoders/e").status_code == 204
    refused = small.post("/v1/collections/d/restore", json={"snapshot": file})
    assert refused.status_code == 404
    assert "no encoder 'e'" in refused.json()["detail"]
    assert small.get("/v1/collections").json() == []


@pytest.mark.parametrize("kept", [False, "float16", True])
def test_a_trained_collection_moves_to_another_service(
    kept: Any, client: TestClient, settings: Settings, tmp_path: Path
) -> None:
    """Encoders could not leave the service that had trained them, and so neither could this."""
    service = service_of(client)
    X = np.random.default_rng(0).normal(size=(200, 8))
    new = {"name": "itq", "method": "itq", "n_bits": 8, "training": {"descriptors": X.tolist()}}
    job = client.post("/v1/encoders", json=new).json()["id"]
    assert ended(client, job)["state"] == "done"
    service.collections.create("c", "itq", kept)
    service.collections.upsert("c", [f"{i}" for i in range(200)], X, payloads=[{"i": 1}] * 200)
    query = {"descriptors": X[:5].tolist(), "k": 20} | ({"rerank": 50} if kept else {})
    before = client.post(f"{COLLECTION}/query", json=query).json()["results"]
    file = client.post(f"{COLLECTION}/snapshots").json()["snapshot"]
    encoder = client.get("/v1/encoders/itq").json()
    with TestClient(create_app(settings_in(tmp_path / "elsewhere"))) as other:
        folder = tmp_path / "elsewhere" / "data" / "snapshots"
        folder.mkdir()
        shutil.copy(settings.data_dir / "snapshots" / file, folder)
        answer = other.post("/v1/collections/c/restore", json={"snapshot": file})
        assert answer.status_code == 201, answer.text
        assert answer.json() == client.get(COLLECTION).json()
        assert other.get("/v1/encoders").json() == [encoder]
        assert other.post(f"{COLLECTION}/query", json=query).json()["results"] == before
        # It is an encoder as any other: it encodes, and takes new items.
        service_of(other).collections.upsert("c", ["new"], X[:1])
        assert other.delete(COLLECTION).status_code == 204
        assert other.delete("/v1/encoders/itq").status_code == 204


def test_the_name_of_another_encoder_is_not_taken(small: TestClient) -> None:
    before = small.post(f"{COLLECTION}/query", json=QUERY).json()["results"]
    file = write_snapshot_and_drop(small)
    fingerprint = small.get("/v1/encoders/e").json()["fingerprint"]
    small.delete("/v1/encoders/e")
    new = {"name": "e", "method": "lsh", "n_bits": 12, "dimension": 4}
    small.post("/v1/encoders", json=new | {"params": {"random_state": 1}})
    refused = small.post("/v1/collections/d/restore", json={"snapshot": file})
    assert refused.status_code == 409
    assert fingerprint in refused.json()["detail"]
    assert small.get("/v1/collections").json() == []
    for _ in range(2):  # The second time, the encoder is there.
        body = {"snapshot": file, "encoder": "other"}
        restored = small.post("/v1/collections/d/restore", json=body).json()
        assert (restored["encoder"], restored["fingerprint"]) == ("other", fingerprint)
        assert small.post("/v1/collections/d/query", json=QUERY).json()["results"] == before
        assert small.delete("/v1/collections/d").status_code == 204
    bad = {"snapshot": file, "encoder": "a/b"}
    assert small.post("/v1/collections/d/restore", json=bad).status_code == 422


def test_a_failed_restore_leaves_no_encoder(small: TestClient, settings: Settings) -> None:
    file = write_snapshot_and_drop(small)
    small.delete("/v1/encoders/e")
    path = settings.data_dir / "snapshots" / file
    about, encoder, items = snapshot_blocks.split(path.read_bytes())
    for blocks in ([about, encoder, items[:-1]], [about, encoder, items, items]):
        path.write_bytes(snapshot_blocks.join(blocks))
        refused = small.post("/v1/collections/d/restore", json={"snapshot": file})
        assert refused.status_code == 422, refused.text
        assert small.get("/v1/encoders").json() == []
        assert small.get("/v1/collections").json() == []


def test_an_encoder_cannot_be_dropped_while_a_snapshot_is_restored(
    small: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_snapshot_and_drop(small)
    reading, proceed, read = Event(), Event(), snapshot.read

    def slow_read(*args: Any) -> Any:
        reading.set()
        assert proceed.wait(30)
        return read(*args)

    monkeypatch.setattr(snapshot, "read", slow_read)
    restoring = Thread(target=service_of(small).snapshots.restore, args=("d", file))
    restoring.start()
    assert reading.wait(30)
    refused = small.delete("/v1/encoders/e")
    proceed.set()
    restoring.join()
    assert refused.status_code == 409
    query = {"descriptors": [[1, 2, 3, 4]]}
    assert small.post("/v1/collections/d/query", json=query).status_code == 200


def test_a_snapshot_for_which_the_disk_has_no_room_leaves_no_file(
    small: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(collection: Collection, target: BinaryIO, encoder: bytes) -> int:
        target.write(b"the beginning")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(snapshot, "write", fail)
    refused = small.post(f"{COLLECTION}/snapshots")
    assert refused.status_code == 507
    assert "no snapshot was written" in refused.json()["detail"]
    assert list((settings.data_dir / "snapshots").iterdir()) == []


@pytest.mark.parametrize("how", ["drop", "reencode"])
def test_a_snapshot_that_is_overtaken_is_refused_or_whole(
    how: str, client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_of(client)
    for name in "ef":
        service.encoders.create(name, "lsh", 12, {"random_state": ord(name)}, dimension=4)
    service.collections.create("c", "e", keep_descriptors=True)
    X = np.random.default_rng(0).normal(size=(20, 4))
    service.collections.upsert("c", [f"{i}" for i in range(20)], X)
    read = Record.descriptors
    overtaken: list[str] = []

    def overtake(self: Record, serials: Sequence[int]) -> Any:
        if not overtaken:
            overtaken.append(how)
            if how == "drop":
                service.collections.drop("c")
            else:
                ended(client, service.collections.reencode("c", "f"))
            service.collections._store.settle()
        return read(self, serials)

    monkeypatch.setattr(Record, "descriptors", overtake)
    answer = client.post(f"{COLLECTION}/snapshots")
    files = [path.name for path in (settings.data_dir / "snapshots").iterdir()]
    if how == "drop":
        assert answer.status_code == 404
        assert "no collection 'c'" in answer.json()["detail"]
        assert files == []
    else:
        assert answer.json() == {"snapshot": files[0], "items": 20}
        about = snapshot.describe(settings.data_dir / "snapshots" / files[0])
        assert (about.encoder, len(files)) == ("f", 1)


def test_no_encoder_is_dropped_between_check_and_use(small: TestClient) -> None:
    service = service_of(small)
    store: EncoderStore = service.encoders._store
    store.add("f", make_hasher("lsh", n_bits=8).fit(np.zeros((1, 4))))
    with store.pinned("f"):
        assert small.delete("/v1/encoders/f").status_code == 409
    assert small.delete("/v1/encoders/f").status_code == 204
