"""Explanations as jobs, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.datasets.catalog import load_dataset
from app.datasets.dataset import Dataset
from app.explain.data import Encoder
from app.explain.render import render
from app.explain.run import explain
from app.jobs.kind import Task
from app.jobs.theory.explanation import request as explanation_request
from app.jobs.theory.explanation import work
from app.service.settings import Settings
from hashing.registry import from_bytes
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy
from tests.app.jobs.waiting import ended
from tests.app.problems import assert_problem

rng = np.random.default_rng(0)
LABELS = rng.permutation(np.repeat([0, 1, 2], 40))
X = (rng.normal(size=(120, 16)) + 2 * np.eye(3, 16)[LABELS]).astype(np.float16).astype(np.float32)
LAWS = ["calibration", "labels"]


def said(result: dict[str, Any]) -> Any:
    """Return a result without plots. The job has other BLAS threads: last digits may differ."""
    findings = [
        (each["law"], each["answer"], each["problem"], [one["text"] for one in each["figures"]])
        for each in result["findings"]
    ]
    return result | {"findings": findings}


def ignore(done: int, of: int, now: str) -> None:
    pass


@pytest.fixture
def dataset(settings: Settings) -> Path:
    """Write a dataset `mine` with 3 classes into the data directory."""
    folder = settings.data_dir / "datasets"
    folder.mkdir(parents=True)
    np.savez(folder / "mine.npz", descriptors=X, labels=LABELS)
    return folder / "mine.npz"


def test_an_explanation_over_http_equals_one_of_the_library(
    dataset: Path, client: TestClient, settings: Settings
) -> None:
    accepted = client.post("/v1/explanations", json={"dataset": "mine", "laws": LAWS, "seed": 3})
    assert accepted.status_code == 202
    url = accepted.json()["url"]
    assert accepted.headers["location"] == url == f"/v1/explanations/{accepted.json()['id']}"
    shown = client.get(url).json()
    assert shown["request"] == {
        "dataset": "mine",
        "laws": LAWS,
        "encoder": None,
        "items": 10_000,
        "seed": 3,
    }
    if shown["state"] == "queued":
        assert_problem(client.get(f"{url}/report"), 409, "not done")
    in_use = client.delete("/v1/datasets/mine")
    assert in_use.status_code == 409 or client.get(url).json()["state"] == "done"
    job = ended(client, accepted.json()["id"])
    assert job["state"] == "done", job
    expected = explain(load_dataset("mine", settings.data_dir), ignore, laws=LAWS, seed=3)
    assert said(job["result"]) == said(expected.as_json())
    assert job["result"]["findings"][1]["plots"][0]["series"][0]["points"]
    assert [each["law"]["key"] for each in job["result"]["findings"]] == ["calibration", "labels"]
    assert client.get("/v1/explanations").json() == [job | {"result": None}]
    report = client.get(f"{url}/report")
    assert report.text[:9000] == render(expected)[:9000]
    assert report.text.count("<svg") == 4
    assert report.headers["content-security-policy"].startswith("default-src 'none'; style-src")
    assert_problem(client.get(f"/v1/benchmarks/{job['id']}"), 404, "there is no benchmark")


def test_a_collection_is_explained_with_an_encoder_of_the_service(client: TestClient) -> None:
    for name in ("e", "f"):
        new = {"name": name, "method": "lsh", "n_bits": 12, "dimension": 16}
        assert client.post("/v1/encoders", json=new).status_code == 201
    new = {"name": "c", "encoder": "e", "keep_descriptors": True}
    assert client.post("/v1/collections", json=new).status_code == 201
    ids = np.array([f"i{i:03}" for i in range(120)])
    assert client.put(
        "/v1/collections/c/items", content=npy(X, ids, LABELS), headers=NPY
    ).is_success
    about: dict[str, Any] = {"collection": "c", "laws": ["calibration"], "encoder": "f"}
    accepted = client.post("/v1/explanations", json=about | {"items": 100})
    in_use = client.delete("/v1/encoders/f")
    assert_problem(in_use, 409, "encoder 'f' is used by an explanation that waits or runs")
    job = ended(client, accepted.json()["id"])
    assert job["state"] == "done", job
    encoder = Encoder("f", from_bytes(client.get("/v1/encoders/f/file").content))
    data = Dataset("c", X, LABELS, ids)
    expected = explain(data, ignore, laws=["calibration"], encoder=encoder, n_items=100)
    assert said(job["result"]) == said(expected.as_json())
    assert job["result"]["trained"] == "f"
    assert client.delete("/v1/encoders/f").status_code == 204
    assert job["result"]["dataset"] == {"name": "c", "items": 120, "sampled": 100, "dimension": 16}


@pytest.mark.parametrize(
    ("status", "message", "change"),
    [
        (404, "no dataset 'mnist'; there are digits", {"dataset": "mnist"}),
        (404, "no encoder 'none'", {"encoder": "none"}),
        (404, "no collection 'none'", {"dataset": None, "collection": "none"}),
        (422, "no law 'widht'; there are width, embedding", {"laws": ["widht"]}),
        (422, "at least one law, got none; there are width", {"laws": []}),
        (422, "expected one of dataset and collection", {"dataset": None}),
        (422, "expected one of dataset and collection", {"collection": "c"}),
        (422, "items: Input should be greater than or equal to 50", {"items": 49}),
        (422, "seed: Input should be greater", {"seed": -1}),
    ],
)
def test_what_cannot_be_explained_is_refused(
    client: TestClient, status: int, message: str, change: dict[str, object]
) -> None:
    new = {"dataset": "digits"} | change
    answer = client.post("/v1/explanations", json={k: v for k, v in new.items() if v is not None})
    assert_problem(answer, status, message)


def test_a_collection_without_descriptors_cannot_be_explained(client: TestClient) -> None:
    assert client.post("/v1/collections", json={"name": "own", "n_bits": 8}).status_code == 201
    answer = client.post("/v1/explanations", json={"collection": "own"})
    assert_problem(answer, 422, "no descriptors")


def test_the_job_says_what_is_wrong_with_the_data(settings: Settings, tmp_path: Path) -> None:
    folder = settings.data_dir / "datasets"
    folder.mkdir(parents=True)
    np.savez(folder / "few.npz", descriptors=X[:49])
    task = Task(
        settings.data_dir,
        tmp_path,
        explanation_request({"dataset": "few"}, ["width"], None, 100, 0),
        None,
    )
    with pytest.raises(ValueError, match="expected at least 50 descriptors, got 49"):
        work(task, ignore)
