"""Recommendations as jobs, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.datasets.catalog import load_dataset
from app.jobs.kind import Task
from app.jobs.recommendation import work
from app.recommend.goal import Goal
from app.recommend.render import render
from app.recommend.run import recommend
from app.service.settings import Settings
from hashing.registry import from_bytes
from tests.app.asgi_client import TestClient
from tests.app.jobs.waiting import ended
from tests.app.problems import assert_problem
from tests.app.recommend.done import done_recommendation
from tests.app.recommend.made import clusters, plain
from tests.app.recommend.test_recommend import without_times

URL = "/v1/recommendations"


@pytest.fixture
def dataset(settings: Settings) -> Path:
    """Write a dataset `mine` into the data directory."""
    folder = settings.data_dir / "datasets"
    folder.mkdir(parents=True)
    made = clusters(240)
    np.savez(folder / "mine.npz", descriptors=made.descriptors, labels=made.labels)
    return folder / "mine.npz"


def test_a_recommendation_over_http_equals_one_of_the_library(
    dataset: Path, client: TestClient, settings: Settings
) -> None:
    new = {"dataset": "mine", "within": 20, "methods": ["sdh", "itq"], "max_bits": 16, "seed": 3}
    accepted = client.post(URL, json=new)
    assert accepted.status_code == 202, accepted.text
    url = accepted.json()["url"]
    assert accepted.headers["location"] == url == f"{URL}/{accepted.json()['id']}"
    assert_problem(client.delete("/v1/datasets/mine"), 409, "is used by a job")
    job = ended(client, accepted.json()["id"])
    assert job["state"] == "done", job
    expected = recommend(
        load_dataset("mine", settings.data_dir),
        Goal(within=20.0),
        methods=["sdh", "itq"],
        max_bits=16,
        seed=3,
    )
    assert without_times(job["result"]) == without_times(expected.result)
    (listed,) = client.get(URL).json()
    assert listed == job | {"result": None}
    report = client.get(f"{url}/report")
    assert report.headers["content-security-policy"].startswith("default-src 'none'")
    assert report.text == render(job["result"])
    assert client.get(f"{url}/report", headers={"Accept": "*/*"}).status_code == 200
    made = client.post(f"{url}/make", json={"name": "small"})
    assert made.status_code == 201, made.text
    collection = client.get("/v1/collections/small").json()
    assert made.json() == collection
    assert collection["encoder"] == "small"
    assert collection["ranking"] == "hamming"
    assert collection["items"] == 0
    file = client.get("/v1/encoders/small/file").content
    assert from_bytes(file).fingerprint == expected.hasher.fingerprint


def test_the_collection_ranks_as_recommended(client: TestClient) -> None:
    goal = Goal(recall=0.8, rerank=30, distance="cosine")
    job = done_recommendation(client, recommend(plain(300), goal, methods=["rabitq"]))
    assert client.post(f"{URL}/{job}/make", json={"name": "near"}).status_code == 201
    shown = client.get("/v1/collections/near").json()
    assert shown["ranking"] == "estimate"
    assert shown["metric"] == "cosine"
    assert shown["descriptor_type"] == "float32"
    X = plain(40).descriptors
    items = [{"id": str(i), "descriptor": row.tolist()} for i, row in enumerate(X)]
    assert client.put("/v1/collections/near/items", json={"items": items}).status_code == 200
    query = client.get(f"{URL}/{job}").json()["result"]["recommended"]["query"]
    answer = client.post(
        "/v1/collections/near/query", json={"descriptors": X[:1].tolist(), "k": 5, **query}
    )
    true = np.argsort(-(X @ X[0]) / np.linalg.norm(X, axis=1))[:5]
    found = [neighbour["id"] for neighbour in answer.json()["results"][0]]
    assert found == true.astype(str).tolist()


def test_nothing_is_made_if_a_name_is_taken(small: TestClient) -> None:
    job = done_recommendation(small)
    for name, message in (("c", "already a collection 'c'"), ("e", "already an encoder 'e'")):
        assert_problem(small.post(f"{URL}/{job}/make", json={"name": name}), 409, message)
    assert_problem(small.post(f"{URL}/{job}/make", json={"name": "a/b"}), 422, "name")
    assert [one["name"] for one in small.get("/v1/encoders").json()] == ["e"]
    assert [one["name"] for one in small.get("/v1/collections").json()] == ["c"]


def test_no_encoder_is_left_if_the_collection_cannot_be_made(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no")

    job = done_recommendation(client)
    collections = client.app.state.service.collections  # type: ignore[attr-defined]
    monkeypatch.setattr(collections, "create", fail)
    assert client.post(f"{URL}/{job}/make", json={"name": "small"}).status_code == 500
    assert client.get("/v1/encoders").json() == []


def test_a_recommendation_of_nothing_makes_nothing(client: TestClient) -> None:
    found = recommend(plain(200), Goal(recall=0.99, rerank=0), methods=["sign"], max_bits=8)
    assert not found.result["reached"]
    job = done_recommendation(client, found)
    answer = client.post(f"{URL}/{job}/make", json={"name": "small"})
    assert_problem(answer, 409, "no candidate reaches its goal")
    assert client.get("/v1/encoders").json() == []


def test_a_collection_needs_descriptors_and_for_map_labels(client: TestClient) -> None:
    encoder = {"name": "e", "method": "lsh", "n_bits": 8, "dimension": 24}
    client.post("/v1/encoders", json=encoder)
    client.post("/v1/collections", json={"name": "bare", "encoder": "e"})
    of_bare = {"collection": "bare", "recall": 0.9}
    assert_problem(client.post(URL, json=of_bare), 422, "keeps codes only, no descriptors")
    client.post("/v1/collections", json={"name": "c", "encoder": "e", "keep_descriptors": True})
    items = [
        {"id": str(i), "descriptor": row.tolist()} for i, row in enumerate(plain(110).descriptors)
    ]
    client.put("/v1/collections/c/items", json={"items": items})
    of_labels = {"collection": "c", "within": 2}
    assert_problem(client.post(URL, json=of_labels), 422, "no labels, which the goal within needs")


def test_a_job_fails_with_what_is_needed(settings: Settings, tmp_path: Path) -> None:
    request = {"dataset": "digits", "goal": {"within": 2}, "items": None, "seed": 0}
    request |= {"methods": None, "max_bits": 512, "seconds": None}
    np.savez(tmp_path / "few.npz", descriptors=np.eye(20), labels=np.arange(20) % 2)
    task = Task(settings.data_dir, tmp_path, request | {"dataset": str(tmp_path / "few.npz")}, None)
    with pytest.raises(ValueError, match="needs at least 100 labelled items, got 20"):
        work(task, lambda *_: None)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"dataset": "none"}, 404, "no dataset 'none'"),
        ({"collection": "c"}, 422, "expected one of dataset and collection"),
        ({"recall": 0.9}, 422, "expected one of within, recall and bytes"),
        ({"within": None}, 422, "expected one of within, recall and bytes"),
        ({"within": 101}, 422, "within: Input should be less than or equal to 100"),
        ({"within": None, "recall": 1}, 422, "recall: Input should be less than 1"),
        ({"methods": ["md5"]}, 422, "there is no method 'md5'"),
        ({"max_bits": 4}, 422, "max_bits: Input should be greater than or equal to 8"),
        ({"methods": []}, 422, "methods: List should have at least 1"),
        ({"within": None, "recall": 0.9, "methods": ["sdh"]}, 422, "sdh learns from labels"),
        ({"goal": "within"}, 422, "goal"),
    ],
)
def test_bad_requests_are_refused(
    client: TestClient, change: dict[str, Any], status: int, message: str
) -> None:
    answer = client.post(URL, json={"dataset": "digits", "within": 2} | change)
    assert_problem(answer, status, message)


def test_what_is_not_there_or_not_done(client: TestClient) -> None:
    assert_problem(client.get(f"{URL}/none"), 404, "no recommendation 'none'")
    assert_problem(client.post(f"{URL}/none/make", json={"name": "x"}), 404, "no recommendation")
    job = client.post(URL, json={"dataset": "digits", "within": 2}).json()["id"]
    assert_problem(client.get(f"{URL}/{job}/report"), 409, "not done")
    assert_problem(client.post(f"{URL}/{job}/make", json={"name": "x"}), 409, "not done")
    client.delete(f"/v1/jobs/{job}")
