"""Trainings as jobs, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
import pytest

from app.jobs import dataset_check
from app.jobs.kind import Task
from app.jobs.training import pack, work
from app.main import create_app
from app.service.settings import Settings
from hashing import InvalidInput, make_hasher
from index import AlreadyExists
from tests.app.asgi_client import TestClient
from tests.app.jobs.waiting import end_of, ended

LSH = {"name": "lsh", "method": "lsh", "n_bits": 8, "dimension": 4}


def train(client: TestClient, **change: Any) -> Any:
    new = {"name": "t", "method": "itq", "n_bits": 8, "training": {"dataset": "digits"}}
    return client.post("/v1/encoders", json=new | change)


def test_a_training_job_makes_an_encoder(client: TestClient) -> None:
    accepted = train(client)
    assert accepted.status_code == 202
    job = accepted.json()["id"]
    assert accepted.headers["location"] == accepted.json()["url"] == f"/v1/jobs/{job}"
    twice = train(client)
    assert twice.status_code == 409
    assert f"is already being trained by job {job}" in twice.json()["detail"]
    assert client.put("/v1/encoders/t", content=b"").status_code == 409
    shown = ended(client, job)
    assert shown["state"] == "done", shown
    encoder = client.get("/v1/encoders/t").json()
    assert shown["result"] == {"name": "t", "fingerprint": encoder["fingerprint"]}
    assert encoder["dimension"] == 384
    (listed,) = client.get("/v1/jobs").json()
    assert listed == client.get(f"/v1/jobs/{job}").json() | {"result": None}
    assert client.get(f"/v1/benchmarks/{job}").status_code == 404
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    assert client.get("/v1/jobs").json() == []


def test_an_encoder_that_is_being_trained_is_not_just_missing(client: TestClient, X: Any) -> None:
    assert client.post("/v1/encoders", json=LSH).status_code == 201
    new = {"name": "k", "encoder": "lsh", "keep_descriptors": True}
    assert client.post("/v1/collections", json=new).status_code == 201
    item = {"id": "a", "descriptor": [1, 2, 3, 4]}
    assert client.put("/v1/collections/k/items", json={"items": [item]}).status_code == 200
    job = train(client).json()["id"]
    answers = [
        client.post("/v1/collections", json={"name": "c", "encoder": "t"}),
        client.get("/v1/encoders/t"),
        client.post("/v1/encoders/t/encode", json={"descriptors": [[1, 2]]}),
        client.post("/v1/collections/k/reencode", json={"encoder": "t"}),
        client.delete("/v1/encoders/t"),
    ]
    for answer in answers:
        assert answer.status_code == 404
        detail = answer.json()["detail"]
        assert detail == f"there is no encoder 't' yet: it is being trained by job {job}"
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    end_of(client.app.state.service.jobs, job)  # type: ignore[attr-defined]
    assert client.get("/v1/encoders/t").json()["detail"] == "there is no encoder 't'"


def test_a_training_gets_the_mirror_of_its_dataset(
    tmp_path: Path, X: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    mirror = np.arange(X.shape[1])[::-1]
    np.savez(datasets / "m.npz", descriptors=X[:9], labels=np.arange(9) % 3, mirror=mirror)
    used: dict[str, Any] = {}

    def make(method: str, **parameters: Any) -> Any:
        used.update(parameters)
        return make_hasher("lsh", n_bits=8)

    monkeypatch.setattr("app.jobs.training.make_hasher", make)
    request = {"name": "t", "method": "net-2", "n_bits": 8, "params": {"noise": 1.0}}
    task = Task(tmp_path, tmp_path, request | {"training": {"dataset": "m"}}, None)
    work(task, lambda done, of, now: None)
    assert used == {"n_bits": 8, "noise": 1.0, "mirror": mirror.tolist()}


def test_a_training_gets_the_privileged_features_of_its_dataset(
    tmp_path: Path, X: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "datasets").mkdir()
    privileged = np.arange(18.0).reshape(9, 2)
    np.savez(
        tmp_path / "datasets" / "p.npz",
        descriptors=X[:9],
        labels=np.arange(9) % 3,
        privileged=privileged,
    )
    fitted: list[Any] = []

    class Watched(type(make_hasher("lsh"))):  # type: ignore[misc]
        def fit(self, *arrays: Any) -> Any:
            fitted.extend(arrays)
            return super().fit(*arrays)

    monkeypatch.setattr("app.jobs.training.make_hasher", lambda method, **_: Watched(n_bits=8))
    request = {"name": "t", "method": "net-2", "n_bits": 8, "params": {}}
    for chosen, expected in (({}, privileged), ({"privileged": False}, None)):
        fitted.clear()
        task = Task(tmp_path, tmp_path, request | {"training": {"dataset": "p", **chosen}}, None)
        work(task, lambda done, of, now: None)
        np.testing.assert_array_equal(fitted[2], expected)


def test_methods_that_use_no_labels_learn_from_a_dataset_without(tmp_path: Path, X: Any) -> None:
    (tmp_path / "datasets").mkdir()
    np.savez(tmp_path / "datasets" / "m.npz", descriptors=X[:50])

    def train(method: str) -> Any:
        request = {"name": "t", "method": method, "n_bits": 8, "params": {}}
        task = Task(tmp_path, tmp_path, request | {"training": {"dataset": "m"}}, None)
        return work(task, lambda done, of, now: None).result

    expected = make_hasher("itq", n_bits=8).fit(X[:50]).fingerprint
    assert train("itq") == {"name": "t", "fingerprint": expected}
    with pytest.raises(InvalidInput, match="labels of at least two classes are needed, got 0"):
        train("ksh")


def test_items_with_several_labels_are_trained_on_as_a_dataset(tmp_path: Path, X: Any) -> None:
    sets = np.random.default_rng(0).random((100, 4)) < 0.4
    path = tmp_path / "datasets" / "sets.npz"
    path.parent.mkdir()
    np.savez(path, descriptors=X[:100], labels=sets)
    found = dataset_check.work(
        Task(tmp_path, tmp_path, {"file": str(path), "name": "sets"}, None), lambda *_: None
    ).result
    assert (found["labelled"], found["classes"]) == (np.count_nonzero(sets.any(axis=1)), 4)
    request = {"name": "e", "method": "sdh", "n_bits": 8, "params": {}}
    request["training"] = {"dataset": "sets"}
    trained = work(Task(tmp_path, tmp_path, request, None), lambda *_: None)
    expected = make_hasher("sdh", n_bits=8).fit(X[:100], sets)
    assert trained.result["fingerprint"] == expected.fingerprint
    with pytest.raises(InvalidInput, match="upload them as a dataset"):
        pack(X[:100], sets)


def test_a_training_is_done_if_its_encoder_was_stored_before_a_crash(
    client: TestClient, X: Any, y: Any
) -> None:
    training = {"descriptors": X[:50].tolist()}
    ended(client, train(client, training=training).json()["id"])
    service = client.app.state.service  # type: ignore[attr-defined]
    request = service.jobs.newest()[0]["request"]
    material = pack(X[:50].astype(float), None)
    again = service.jobs.add("training", request, material)
    assert ended(client, again)["state"] == "done"
    other = service.jobs.add("training", request | {"n_bits": 9}, material)
    assert "already an encoder 't'" in ended(client, other)["error"]


def test_a_training_that_ends_meanwhile_has_taken_its_name(
    client: TestClient, X: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    request = {"name": "t", "method": "itq", "n_bits": 8, "params": {}}
    request |= {"training": {"descriptors": 50}}
    material = pack(X[:50].astype(float), None)
    trains, first = service.jobs.trains, list[str]()

    def look(encoder: str) -> Any:
        """Another training begins after the first look, and ends before the second one."""
        if first:
            end_of(service.jobs, first[0])
            return trains(encoder)
        found = trains(encoder)
        first.append(service.jobs.add("training", request, material))
        return found

    monkeypatch.setattr(service.jobs, "trains", look)
    second = train(client, training={"descriptors": X[:50].tolist()})
    assert (second.status_code, "already an encoder 't'" in second.text) == (409, True)
    assert [job["state"] for job in client.get("/v1/jobs").json()] == ["done"]


class HeldLock:
    """A lock that its first holder does not release before somebody else waits for it."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._lock, self._wanted = Lock(), Event()
        self.other = Thread(target=meanwhile)

    def __enter__(self) -> None:
        if self.other.ident is not None:
            self._wanted.set()
        self._lock.acquire()
        if self.other.ident is None:
            self.other.start()
            assert self._wanted.wait(30)

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_two_requests_at_the_same_time_cannot_give_one_name_to_two_encoders(
    client: TestClient, X: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    encoders, file = service.encoders, make_hasher("lsh", n_bits=8).fit(X[:9]).to_bytes()
    ways: dict[str, Callable[[str], Any]] = {
        "create": lambda name: encoders.create(name, "lsh", 8, {}, dimension=4),
        "upload": lambda name: encoders.upload(name, file),
        "train": lambda name: encoders.train(name, "itq", 8, {}, descriptors=X[:50]),
    }
    for first, second in product(ways, ways):
        name, refusals = f"{first}-{second}", list[str]()

        def refused(second: str = second, name: str = name, to: list[str] = refusals) -> None:
            with pytest.raises(AlreadyExists) as error:
                ways[second](name)
            to.append(str(error.value))

        held = HeldLock(refused)
        monkeypatch.setattr(encoders._store, "_naming", held)
        made = ways[first](name)
        held.other.join(30)
        if first == "train":
            assert refusals == [f"an encoder {name!r} is already being trained by job {made}"]
            service.jobs.remove(made)
        else:
            assert refusals == [f"there is already an encoder {name!r}"]
    trained = [job["request"]["name"] for job in service.jobs.newest()]
    assert sorted(trained) == sorted(set(trained))


@pytest.mark.parametrize(
    ("status", "message", "change"),
    [
        (422, "ksh learns from labels", {"method": "ksh", "training": {"descriptors": [[1, 2]]}}),
        (422, "expected one of descriptors, dataset and collection", {"training": {}}),
        (422, "labels go with descriptors", {"training": {"dataset": "digits", "labels": [1]}}),
        (
            422,
            "privileged goes with dataset",
            {"training": {"descriptors": [[1, 2]], "privileged": False}},
        ),
        (422, "row 0, column 1 is 1e+30", {"training": {"descriptors": [[1, 1e30]]}}),
        (422, "expected 1 labels", {"training": {"descriptors": [[1, 2]], "labels": [1, 2]}}),
        (404, "no dataset '../x.npz'", {"training": {"dataset": "../x.npz"}}),
        (404, "no dataset '/etc/x.npz'", {"training": {"dataset": "/etc/x.npz"}}),
        (404, "no collection 'nobody'", {"training": {"collection": "nobody"}}),
        (422, "no parameter 'depth'", {"params": {"depth": 3}}),
        (422, "n_bits must be from 1", {"n_bits": 0}),
        (422, "either training or dimension", {"dimension": 4}),
    ],
)
def test_an_invalid_training_is_refused_at_once(
    status: int, message: str, change: Any, client: TestClient
) -> None:
    answer = train(client, **change)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["detail"]
    assert client.get("/v1/jobs").json() == []


def test_a_net_is_refused_at_once_without_torch(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    answer = train(client, method="net-1", training={"descriptors": [[1, 2]], "labels": [0]})
    assert answer.status_code == 422
    assert "torch, which is not installed" in answer.json()["detail"]


def test_a_full_queue_answers_429(settings: Settings) -> None:
    one_job = settings.model_copy(update={"max_jobs": 1})
    with TestClient(create_app(one_job)) as client:
        first = train(client).json()["id"]
        full = train(client, name="u")
        assert full.status_code == 429
        assert full.headers["retry-after"] == "10"
        assert "BITCELL_MAX_JOBS" in full.json()["detail"]
        client.delete(f"/v1/jobs/{first}")


def test_a_training_runs_again_after_a_restart(settings: Settings) -> None:
    X = np.random.default_rng(0).normal(size=(300, 20))
    training = {"descriptors": X.tolist(), "labels": (X[:, 0] > 0).astype(int).tolist()}
    with TestClient(create_app(settings)) as client:
        job = train(client, method="sdh", training=training).json()["id"]
    with TestClient(create_app(settings)) as client:
        assert ended(client, job)["state"] == "done"
        assert client.get("/v1/encoders/t").json()["method"] == "sdh"


def test_unknown_jobs_are_not_found(client: TestClient) -> None:
    for path in ("/v1/jobs/none", "/v1/jobs/none/events"):
        assert client.get(path).status_code == 404
    assert client.delete("/v1/jobs/none").status_code == 404
