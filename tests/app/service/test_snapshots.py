"""Snapshots of the service and the encoders that they need."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from threading import Event, Thread
from typing import Any, BinaryIO

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.service.encoder_store import EncoderStore
from app.service.service import Service
from app.service.settings import Settings
from hashing import make_hasher
from index import Collection, snapshot
from index.storage.record import Record
from tests.app.jobs.waiting import ended

COLLECTION = "/v1/collections/c"


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def write_snapshot_and_drop(client: TestClient) -> str:
    file: str = client.post(f"{COLLECTION}/snapshots").json()["snapshot"]
    assert client.delete(COLLECTION).status_code == 204
    return file


def test_a_snapshot_without_its_encoder_is_refused(small: TestClient) -> None:
    file = write_snapshot_and_drop(small)
    assert small.delete("/v1/encoders/e").status_code == 204
    refused = small.post("/v1/collections/d/restore", json={"snapshot": file})
    assert refused.status_code == 404
    assert "no encoder 'e'" in refused.json()["detail"]
    assert small.get("/v1/collections").json() == []


def test_a_snapshot_of_another_encoders_codes_is_refused(small: TestClient) -> None:
    file = write_snapshot_and_drop(small)
    fingerprint = small.get("/v1/encoders/e").json()["fingerprint"]
    small.delete("/v1/encoders/e")
    new = {"name": "e", "method": "lsh", "n_bits": 12, "dimension": 4}
    small.post("/v1/encoders", json=new | {"params": {"random_state": 1}})
    refused = small.post("/v1/collections/d/restore", json={"snapshot": file})
    assert refused.status_code == 409
    assert fingerprint in refused.json()["detail"]
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
    def fail(collection: Collection, target: BinaryIO) -> int:
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
