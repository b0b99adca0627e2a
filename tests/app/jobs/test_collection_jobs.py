"""Jobs on the kept descriptors of a collection: re-encoding, trainings and benchmarks."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.benchmark.rows import rows
from app.benchmark.run import run
from app.benchmark.splits import Protocol
from app.datasets.dataset import Dataset
from app.jobs.queue import Jobs
from app.service.service import Service
from app.service.settings import Settings
from hashing import Hasher, make_hasher
from index import AlreadyExists, Collection, Database, Replaced, Store
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy
from tests.app.jobs.test_benchmark_jobs import without_times
from tests.app.jobs.waiting import end_of, ended
from tests.app.service_process import Process

URL = "/v1/collections/c"


def data(n: int = 90) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.str_]]:
    """Return descriptors of three classes that float16 represents exactly, labels and ids."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(n) % 3)
    X = rng.normal(size=(n, 16)) + 2 * np.eye(3, 16)[labels]
    return X.astype(np.float16).astype(np.float32), labels, np.array([f"i{i:05}" for i in range(n)])


def new_encoder(name: str, n_bits: int, dimension: int = 16) -> dict[str, Any]:
    return {"name": name, "method": "lsh", "n_bits": n_bits, "dimension": dimension}


@pytest.fixture
def filled(client: TestClient) -> TestClient:
    """Return a client of a service with encoders e and f, and a collection c with descriptors."""
    for name, n_bits in (("e", 12), ("f", 20)):
        assert client.post("/v1/encoders", json=new_encoder(name, n_bits)).status_code == 201
    new = {"name": "c", "encoder": "e", "keep_descriptors": True}
    assert client.post("/v1/collections", json=new).status_code == 201
    X, y, ids = data()
    put = client.put(f"{URL}/items", content=npy(X, ids, y), headers=NPY)
    assert put.status_code == 200, put.text
    return client


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def test_a_training_on_a_collection_equals_one_on_its_items(filled: TestClient) -> None:
    X, y, _ = data()
    params = {"n_anchors": 30, "random_state": 1}
    new = {"name": "t", "method": "sdh", "n_bits": 8, "params": params}
    accepted = filled.post("/v1/encoders", json=new | {"training": {"collection": "c"}})
    assert accepted.status_code == 202, accepted.text
    shown = ended(filled, accepted.json()["id"])
    assert shown["state"] == "done", shown
    expected = make_hasher("sdh", n_bits=8, **params).fit(X, y)
    assert shown["result"]["fingerprint"] == expected.fingerprint


def test_a_benchmark_of_a_collection_equals_one_of_its_items(filled: TestClient) -> None:
    X, y, ids = data()
    new = {"methods": ["raw", "itq"], "bits": [8], "queries_per_class": 5, "labels_per_class": 9}
    accepted = filled.post("/v1/benchmarks", json=new | {"collection": "c"})
    assert accepted.status_code == 202, accepted.text
    shown = ended(filled, accepted.json()["id"])
    assert shown["state"] == "done", shown
    expected = run(
        Dataset("c", X, y, ids), rows(["raw", "itq"], [8]), Protocol("retrieval-59k", 5, 9), [0]
    )
    assert without_times(shown["result"]) == without_times(expected)
    assert filled.get(f"{accepted.json()['url']}/report").status_code == 200


@pytest.mark.parametrize(
    ("message", "collection", "labels"),
    [
        ("collection 'c' keeps codes only, no descriptors", {"keep_descriptors": False}, True),
        ("collection 'c' is empty", None, True),
        ("has no labels, which a benchmark needs", {}, False),
    ],
)
def test_an_unsuitable_collection_is_refused_at_once(
    message: str, collection: Any, labels: bool, client: TestClient
) -> None:
    client.post("/v1/encoders", json=new_encoder("e", 12))
    new = {"name": "c", "encoder": "e", "keep_descriptors": True}
    client.post("/v1/collections", json=new | (collection or {}))
    X, y, ids = data()
    if collection is not None:
        body = npy(X, ids, y) if labels else npy(X, ids)
        assert client.put(f"{URL}/items", content=body, headers=NPY).status_code == 200
    training = {"name": "t", "method": "itq", "n_bits": 8, "training": {"collection": "c"}}
    answers = [client.post("/v1/benchmarks", json={"collection": "c", "methods": ["lsh"]})]
    if labels:
        answers.append(client.post("/v1/encoders", json=training))
        answers.append(client.post(f"{URL}/reencode", json={"encoder": "e"}))
    else:
        ksh = client.post("/v1/encoders", json=training | {"method": "ksh"})
        assert (ksh.status_code, "learns from labels" in ksh.text) == (422, True)
    for answer in answers:
        assert answer.status_code == 422, answer.text
        assert message in answer.json()["detail"]
    assert client.get("/v1/jobs").json() == []


@pytest.mark.parametrize("body", [{}, {"dataset": "digits", "collection": "c"}])
def test_a_benchmark_needs_exactly_one_source(body: Any, client: TestClient) -> None:
    answer = client.post("/v1/benchmarks", json=body | {"methods": ["lsh"]})
    assert answer.status_code == 422
    assert "expected one of dataset and collection" in answer.json()["detail"]


class HeldEncoder:
    """Make an encoder wait before it encodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, hasher: Hasher) -> None:
        self.begun, self.go_on = Event(), Event()
        encode = hasher.encode

        def held(X: Any) -> Any:
            self.begun.set()
            assert self.go_on.wait(30)
            return encode(X)

        monkeypatch.setattr(hasher, "encode", held)


def test_a_collection_can_be_used_while_it_is_reencoded(
    filled: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, _, ids = data()
    held = HeldEncoder(monkeypatch, service_of(filled).encoders.get("f").hasher)
    filled.post("/v1/encoders", json=new_encoder("g", 20, dimension=5))
    for status, encoder in ((422, "g"), (404, "nobody")):
        wrong = filled.post(f"{URL}/reencode", json={"encoder": encoder})
        assert wrong.status_code == status, wrong.text
    job = filled.post(f"{URL}/reencode", json={"encoder": "f"}).json()["id"]
    assert held.begun.wait(30)
    twice = filled.post(f"{URL}/reencode", json={"encoder": "f"})
    assert (twice.status_code, "already being re-encoded" in twice.text) == (409, True)
    assert filled.delete("/v1/encoders/f").status_code == 409
    assert filled.get(URL).json()["encoder"] == "e"
    near = filled.post(f"{URL}/query", json={"ids": [ids[3]], "k": 1}).json()["results"][0]
    assert near[0]["distance"] == 0
    late = {"items": [{"id": "late", "descriptor": X[0].tolist()}]}
    assert filled.put(f"{URL}/items", json=late).status_code == 200
    assert filled.delete(f"{URL}/items/{ids[1]}").status_code == 204
    held.go_on.set()
    shown = ended(filled, job)
    assert shown["state"] == "done", shown
    assert filled.get(URL).json()["items"] == shown["result"]["items"] == len(ids)
    f = make_hasher("lsh", n_bits=20).fit(np.zeros((1, 16), np.float32))
    for name, row in (("late", 0), (ids[5], 5)):
        assert (
            filled.get(f"{URL}/items/{name}").json()["code"]
            == f.encode(X[row : row + 1]).tobytes().hex()
        )
    assert filled.get(f"{URL}/items/{ids[1]}").status_code == 404


def test_a_collection_has_one_reencoding_at_a_time(
    filled: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second request that arrives while the first is being checked waits for it."""
    service, add = service_of(filled), Jobs.add
    held = HeldEncoder(monkeypatch, service.encoders.get("f").hasher)
    refusals: list[Exception] = []

    def reencode() -> None:
        try:
            service.collections.reencode("c", "f")
        except AlreadyExists as error:
            refusals.append(error)

    second = Thread(target=reencode)

    def add_late(self: Jobs, kind: str, *args: Any) -> str:
        if second.ident is None:
            second.start()
            second.join(0.5)
        return add(self, kind, *args)

    monkeypatch.setattr(Jobs, "add", add_late)
    job = service.collections.reencode("c", "f")
    second.join(30)
    held.go_on.set()
    assert [str(error) for error in refusals] == ["collection 'c' is already being re-encoded"]
    assert ended(filled, job)["state"] == "done"
    assert [shown["id"] for shown in filled.get("/v1/jobs").json()] == [job]


def test_a_query_during_the_change_of_codes_is_answered(
    filled: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that began on the old codes is repeated on the new ones."""
    X, y, ids = data()
    service = service_of(filled)
    old = service.collections.get("c")
    done: list[str] = []

    def change_over() -> None:
        if not done:
            done.append(service.collections.reencode("c", "f"))
            ended(filled, done[0])

    search = Collection.search

    def changed_over(self: Collection, *args: Any, **more: Any) -> Any:
        if self is old:
            change_over()
        return search(self, *args, **more)

    monkeypatch.setattr(Collection, "search", changed_over)
    found = filled.post(f"{URL}/query", content=npy(X[3:4]), headers=NPY)
    assert found.status_code == 200, found.text
    assert found.json()["results"][0][0] == {
        "id": ids[3],
        "distance": 0,
        "label": int(y[3]),
    }
    assert done
    with pytest.raises(Replaced, match="re-encoded"):
        old.get(str(ids[3]))


def test_the_old_codes_are_whole_after_a_kill_during_reencoding(tmp_path: Path) -> None:
    process = Process(tmp_path, BITCELL_DEMO="false")
    X, _, _ = data(40_000)
    for new in (new_encoder("e", 12), new_encoder("f", 20)):
        process.call("POST", "/v1/encoders", new)
    process.call("POST", "/v1/collections", {"name": "c", "encoder": "e", "keep_descriptors": True})
    ids = np.array([f"i{i:05}" for i in range(len(X))])
    with httpx2.Client(base_url=process.url, timeout=60) as client:
        assert client.put(f"{URL}/items", content=npy(X, ids), headers=NPY).status_code == 200
    job = process.call("POST", f"{URL}/reencode", {"encoder": "f"})["id"]
    shown = process.follow(job, "running")
    process.stop(signal.SIGKILL)
    assert shown["result"] is None
    # Read the data before a service resumes the job.
    database = Database(tmp_path / "bitcell.db")
    store = Store(database)
    (collection,) = store.list()
    assert (collection.name, collection.encoder, len(collection)) == ("c", "e", len(X))
    e = make_hasher("lsh", n_bits=12).fit(np.zeros((1, 16), np.float32))
    assert (collection.codes(ids[::997].tolist()) == e.encode(X[::997])).all()
    store.close()
    database.close()
    process = Process(tmp_path, BITCELL_DEMO="false")
    try:
        assert process.follow(job, "done")["result"]["items"] == len(X)
        assert process.call("GET", URL)["encoder"] == "f"
    finally:
        process.stop()


class EndlessCopy:
    """A collection whose items take ten seconds to copy, in small batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.ended = Event(), Event()
        copy = Collection.descriptor_batches

        def batches(collection: Collection) -> Any:
            (batch,) = copy(collection)
            deadline = time.monotonic() + 10
            try:
                while time.monotonic() < deadline:
                    self.begun.set()
                    yield batch
            finally:
                self.ended.set()

        monkeypatch.setattr(Collection, "descriptor_batches", batches)


def test_a_job_can_be_cancelled_while_it_copies_a_collection(
    filled: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = EndlessCopy(monkeypatch)
    job = filled.post("/v1/benchmarks", json={"collection": "c", "methods": ["lsh"]}).json()["id"]
    assert copy.begun.wait(30)
    assert filled.delete(f"/v1/jobs/{job}").status_code == 204
    assert copy.ended.wait(3)
    assert filled.get(f"/v1/jobs/{job}").json()["state"] == "cancelled"


def test_a_stop_ends_the_copying_of_a_collection(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = EndlessCopy(monkeypatch)
    service = Service(settings)
    service.encoders.create("e", "lsh", 12, {}, dimension=16)
    service.collections.create("c", "e", keep_descriptors=True)
    X, y, ids = data()
    service.collections.upsert("c", ids.tolist(), X, y)
    job = service.benchmarks.start(rows(["lsh"], [8]), Protocol(), [0], collection="c")
    assert copy.begun.wait(30)
    start = time.monotonic()
    service.close()
    assert service.all_ended
    assert time.monotonic() - start < 3
    monkeypatch.undo()
    service = Service(settings)
    assert end_of(service.jobs, job)["state"] == "done"
    service.close()
