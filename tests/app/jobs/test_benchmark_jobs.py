"""Benchmarks in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.benchmark.report.render import render
from app.benchmark.rows import rows
from app.benchmark.run import run
from app.benchmark.splits import Protocol
from app.datasets.catalog import load_dataset
from app.service.settings import Settings
from tests.app.jobs.waiting import ended


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
    return ended(client, url.rpartition("/")[2])


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
    url = client.post("/v1/benchmarks", json=asked).json()["url"]
    answer = client.get(f"{url}/report")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert "not done" in answer.json()["detail"]
    np.savez(settings.data_dir / "datasets" / "bad.npz", descriptors=np.eye(9))
    bad = client.post("/v1/benchmarks", json=asked | {"dataset": "bad"}).json()["url"]
    finished(client, bad)
    assert "its state is failed" in client.get(f"{bad}/report").json()["detail"]


def test_what_cannot_be_measured_fails_with_its_reason(
    client: TestClient, settings: Settings
) -> None:
    folder = settings.data_dir / "datasets"
    folder.mkdir()
    np.savez(folder / "one.npz", descriptors=np.eye(9), labels=np.zeros(9, int))
    accepted = client.post("/v1/benchmarks", json={"dataset": "one", "methods": ["lsh"]})
    shown = finished(client, accepted.json()["url"])
    assert shown["state"] == "failed"
    assert "at least 2 classes" in shown["error"]
