"""Benchmarks in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.benchmark.datasets import load_dataset
from app.benchmark.measure import Row, rows
from app.benchmark.protocol import Protocol
from app.benchmark.report import render
from app.benchmark.run import run
from app.benchmarks import MAX_WAITING, Benchmarks
from app.main import create_app
from app.settings import Settings
from index import Database


@pytest.fixture
def mine(settings: Settings) -> Path:
    """A dataset `mine` of 3 classes in the data directory."""
    folder = settings.data_dir / "datasets"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], 60))
    descriptors = rng.normal(size=(180, 16)) + 2 * np.eye(3, 16)[labels]
    np.savez(folder / "mine.npz", descriptors=descriptors, labels=labels)
    return folder / "mine.npz"


def finished(client: TestClient, url: str) -> dict[str, Any]:
    """The benchmark when it is done: each answer is waited for, so this spins no faster."""
    for _ in range(100_000):
        shown: dict[str, Any] = client.get(url).json()
        if shown["state"] in ("done", "failed"):
            return shown
    raise AssertionError(f"not done: {shown}")


def untimed(result: dict[str, Any]) -> dict[str, Any]:
    kept = [{k: v for k, v in row.items() if "seconds" not in k} for row in result["results"]]
    return result | {"results": kept}


def test_over_http_the_result_is_the_librarys(
    mine: Path, client: TestClient, settings: Settings
) -> None:
    asked = {"dataset": "mine", "methods": ["raw", "lsh"], "bits": [8, 16], "seed": 5}
    accepted = client.post("/v1/benchmarks", json=asked)
    assert accepted.status_code == 202
    url = accepted.json()["url"]
    assert accepted.headers["location"] == url == f"/v1/benchmarks/{accepted.json()['id']}"
    shown = finished(client, url)
    assert shown["state"] == "done", shown
    (listed,) = client.get("/v1/benchmarks").json()
    assert listed == shown | {"result": None}
    table = rows(["raw", "lsh"], [8, 16])
    expected = run(load_dataset("mine", settings.data_dir), table, Protocol(), [5])
    assert untimed(shown["result"]) == untimed(expected)
    assert [(r["method"], r["n_bits"]) for r in expected["results"]] == [
        ("raw", None),
        ("lsh", 8),
        ("lsh", 16),
    ]
    assert all(r["map"] > 1 / 3 for r in expected["results"])
    assert all(r["queries"] == 30 for r in expected["results"])
    assert "scaled" in expected["protocol"]


def test_the_report_is_that_of_the_result(
    mine: Path, client: TestClient, settings: Settings
) -> None:
    asked = {"dataset": "mine", "methods": ["raw", "lsh"], "bits": [8]}
    url = client.post("/v1/benchmarks", json=asked).json()["url"]
    result = finished(client, url)["result"]
    answer = client.get(f"{url}/report")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert answer.text == render(result, load_dataset("mine", settings.data_dir, images=True))


def test_there_is_a_report_only_of_what_is_done(
    mine: Path, client: TestClient, settings: Settings
) -> None:
    assert client.get("/v1/benchmarks/none/report").status_code == 404
    asked = {"dataset": "mine", "methods": ["lsh"], "bits": list(range(1, 40))}
    urls = [client.post("/v1/benchmarks", json=asked).json()["url"] for _ in range(2)]
    answer = client.get(f"{urls[1]}/report")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert "is queued; only one that is done has a report" in answer.json()["detail"]
    np.savez(settings.data_dir / "datasets" / "bad.npz", descriptors=np.eye(9))
    bad = client.post("/v1/benchmarks", json=asked | {"dataset": "bad"}).json()["url"]
    finished(client, bad)
    assert "is failed" in client.get(f"{bad}/report").json()["detail"]


def test_what_cannot_be_measured_fails_with_its_reason(
    client: TestClient, settings: Settings
) -> None:
    folder = settings.data_dir / "datasets"
    folder.mkdir()
    np.savez(folder / "one.npz", descriptors=np.eye(9), labels=np.zeros(9, int))
    accepted = client.post("/v1/benchmarks", json={"dataset": "one", "methods": ["lsh"]})
    shown = finished(client, accepted.json()["url"])
    assert shown["state"] == "failed"
    assert "2 classes or more" in shown["error"]


def test_a_restart_marks_what_was_not_done(mine: Path, settings: Settings) -> None:
    with TestClient(create_app(settings)) as client:
        asked = {"dataset": "mine", "methods": ["lsh"], "bits": list(range(1, 40))}
        urls = [client.post("/v1/benchmarks", json=asked).json()["url"] for _ in range(3)]
    with TestClient(create_app(settings)) as client:
        last = client.get(urls[-1]).json()
        assert last["state"] == "failed"
        assert last["error"] == "the service stopped before it was done"
        assert last["request"]["dataset"] == "mine"


def test_too_many_at_once_are_told_to_wait(mine: Path, client: TestClient) -> None:
    asked = {"dataset": "mine", "methods": ["lsh"], "bits": list(range(1, 40))}
    answers = [client.post("/v1/benchmarks", json=asked) for _ in range(MAX_WAITING + 1)]
    assert [a.status_code for a in answers] == [202] * MAX_WAITING + [503]
    assert answers[-1].headers["retry-after"]
    assert answers[-1].json()["detail"] == f"{MAX_WAITING} benchmarks are waiting already"


def test_a_process_that_dies_is_a_failure(
    mine: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(settings.data_dir / "bitcell.db")
    benchmarks = Benchmarks(database, settings.data_dir)
    monkeypatch.setattr("app.benchmarks.work", print)
    benchmark = benchmarks.start("mine", [Row("lsh", 8)], Protocol(), [0])
    benchmarks._worker.shutdown(wait=True)
    shown = benchmarks.get(benchmark)
    assert (shown["state"], shown["error"]) == ("failed", "its process ended without a result")
    benchmarks.close()
    database.close()
