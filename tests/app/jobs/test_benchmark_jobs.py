"""Benchmarks as jobs, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.benchmark.neighbours.protocol import NeighbourProtocol
from app.benchmark.neighbours.run import run_neighbours
from app.benchmark.report.render import render
from app.benchmark.rows import rows
from app.benchmark.run import run
from app.benchmark.splits import Protocol
from app.datasets.catalog import load_dataset
from app.jobs.benchmark import work
from app.jobs.kind import Task
from app.jobs.queue import Jobs
from app.service.settings import Settings
from tests.app.jobs.waiting import ended, until
from tests.app.problems import assert_problem


@pytest.fixture
def dataset(settings: Settings) -> Path:
    """Write a dataset `mine` with 3 classes into the data directory."""
    folder = settings.data_dir / "datasets"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], 60))
    descriptors = rng.normal(size=(180, 16)) + 2 * np.eye(3, 16)[labels]
    np.savez(folder / "mine.npz", descriptors=descriptors, labels=labels)
    return folder / "mine.npz"


def wait_for(client: TestClient, url: str) -> dict[str, Any]:
    return ended(client, url.rpartition("/")[2])


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    results = [{k: v for k, v in row.items() if "second" not in k} for row in result["results"]]
    return result | {"results": results}


def test_a_benchmark_over_http_equals_one_of_the_library(
    dataset: Path, client: TestClient, settings: Settings
) -> None:
    new = {"dataset": "mine", "methods": ["raw", "lsh"], "bits": [8, 16], "seed": 5}
    accepted = client.post("/v1/benchmarks", json=new)
    assert accepted.status_code == 202
    url = accepted.json()["url"]
    assert accepted.headers["location"] == url == f"/v1/benchmarks/{accepted.json()['id']}"
    job = wait_for(client, url)
    assert job["state"] == "done", job
    (listed,) = client.get("/v1/benchmarks").json()
    assert listed == job | {"result": None}
    table = rows(["raw", "lsh"], [8, 16])
    expected = run(load_dataset("mine", settings.data_dir), table, Protocol(), [5])
    assert without_times(job["result"]) == without_times(expected)
    assert [(r["method"], r["n_bits"]) for r in expected["results"]] == [
        ("raw", None),
        ("lsh", 8),
        ("lsh", 16),
    ]
    assert all(r["map"] > 1 / 3 for r in expected["results"])
    assert all(r["queries"] == 30 for r in expected["results"])
    assert "scaled" in expected["protocol"]


def test_the_report_shows_the_result(dataset: Path, client: TestClient, settings: Settings) -> None:
    new = {"dataset": "mine", "methods": ["raw", "lsh"], "bits": [8]}
    url = client.post("/v1/benchmarks", json=new).json()["url"]
    result = wait_for(client, url)["result"]
    answer = client.get(f"{url}/report")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert answer.text == render(result, load_dataset("mine", settings.data_dir, images=True))


def test_only_finished_benchmarks_have_a_report(
    dataset: Path, client: TestClient, settings: Settings
) -> None:
    assert client.get("/v1/benchmarks/none/report").status_code == 404
    new = {"dataset": "mine", "methods": ["lsh"], "bits": list(range(1, 40))}
    url = client.post("/v1/benchmarks", json=new).json()["url"]
    answer = client.get(f"{url}/report")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert "not done" in answer.json()["detail"]
    np.savez(settings.data_dir / "datasets" / "bad.npz", descriptors=np.eye(9))
    bad = client.post("/v1/benchmarks", json=new | {"dataset": "bad"}).json()["url"]
    wait_for(client, bad)
    assert "its state is failed" in client.get(f"{bad}/report").json()["detail"]


def test_a_benchmark_fails_with_the_reason(client: TestClient, settings: Settings) -> None:
    folder = settings.data_dir / "datasets"
    folder.mkdir()
    np.savez(folder / "one.npz", descriptors=np.eye(9), labels=np.zeros(9, int))
    accepted = client.post("/v1/benchmarks", json={"dataset": "one", "methods": ["lsh"]})
    job = wait_for(client, accepted.json()["url"])
    assert job["state"] == "failed"
    assert "at least 2 classes" in job["error"]


def test_a_cancelled_benchmark_keeps_the_rows_that_it_has_measured(
    dataset: Path, client: TestClient
) -> None:
    new = {"dataset": "mine", "methods": ["lsh"], "bits": list(range(1, 40))}
    job = client.post("/v1/benchmarks", json=new).json()["id"]
    jobs: Jobs = client.app.state.service.jobs  # type: ignore[attr-defined]
    until(jobs, job, lambda shown: shown["progress"]["done"] >= 3)
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    shown = ended(client, job)
    assert shown["state"] == "cancelled"
    has_figures = ["map" in row for row in shown["result"]["results"]]
    n = sum(has_figures)
    assert 3 <= n < 39
    assert has_figures == [True] * n + [False] * (39 - n)
    assert f"Not measured: lsh, {n + 1} bits (seed 0)" in shown["result"]["interrupted"]
    report = client.get(f"/v1/benchmarks/{job}/report")
    assert report.status_code == 200
    assert "The benchmark was interrupted." in report.text


def test_a_benchmark_of_neighbours_over_http_equals_one_of_the_library(
    client: TestClient, settings: Settings
) -> None:
    """Neither a dataset nor a collection needs labels for it."""
    folder = settings.data_dir / "datasets"
    folder.mkdir()
    X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    np.savez(folder / "plain.npz", descriptors=X)
    new = {"dataset": "plain", "methods": ["raw", "sign"], "bits": [8], "protocol": "neighbours"}
    url = client.post("/v1/benchmarks", json=new | {"k": 3, "queries": 9}).json()["url"]
    job = client.get(url).json()
    assert job["request"] == {
        "dataset": "plain",
        "protocol": "neighbours",
        "queries": 9,
        "k": 3,
        "distance": None,
        "rerank": [100, 1000],
        "rows": [["raw", None], ["sign", 8]],
        "seeds": [0],
    }
    outcome = work(Task(settings.data_dir, folder, job["request"], None), lambda *_: None)
    dataset = load_dataset("plain", settings.data_dir)
    expected = run_neighbours(dataset, rows(["raw", "sign"], [8]), NeighbourProtocol(9, 3), [0])
    assert without_times(outcome.result) == without_times(expected)
    assert b"true neighbours by exact search" in (outcome.output or b"")
    client.delete(f"/v1/jobs/{job['id']}")
    encoder = {"name": "e", "method": "lsh", "n_bits": 8, "dimension": 8}
    client.post("/v1/encoders", json=encoder)
    client.post("/v1/collections", json={"name": "c", "encoder": "e", "keep_descriptors": True})
    items = [{"id": str(i), "descriptor": row.tolist()} for i, row in enumerate(X)]
    client.put("/v1/collections/c/items", json={"items": items})
    of_items = {"collection": "c", "methods": ["raw"]}
    assert "has no labels" in client.post("/v1/benchmarks", json=of_items).json()["detail"]
    started = client.post("/v1/benchmarks", json=of_items | {"protocol": "neighbours"})
    assert started.status_code == 202, started.text
    client.delete(f"/v1/jobs/{started.json()['id']}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "neighbour"}, "there is no protocol 'neighbour'; there are retrieval-59k"),
        ({"k": 5}, "k: only for 'neighbours', and the protocol is 'retrieval-59k'"),
        ({"protocol": "neighbours", "labels_per_class": 5}, "labels_per_class: only for a"),
        ({"protocol": "neighbours", "distance": "dot"}, "distance: Input should be 'euclidean'"),
        ({"protocol": "neighbours", "k": 0}, "k: Input should be greater than or equal to 1"),
    ],
)
def test_numbers_that_do_not_belong_to_the_protocol_are_refused(
    client: TestClient, change: dict[str, Any], message: str
) -> None:
    answer = client.post("/v1/benchmarks", json={"dataset": "digits", "methods": ["lsh"]} | change)
    assert_problem(answer, 422, message)
