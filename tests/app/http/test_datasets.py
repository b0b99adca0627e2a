"""Datasets over HTTP: list, show, upload and delete."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.datasets.catalog import load_dataset
from app.datasets.files import read_dataset
from app.jobs import dataset_check
from app.jobs.kind import Outcome, Task
from app.jobs.process import JobFailed, JobProcess
from app.jobs.queue import Jobs
from app.main import create_app
from app.service.files import dataset_files
from app.service.files.dataset_files import AT_ONCE, Contents, Datasets
from app.service.keys import READ, Keys
from app.service.settings import Settings
from tests.app.conftest import npy
from tests.app.jobs.waiting import ended
from tests.app.problems import assert_problem

FILE = {"Content-Type": "application/octet-stream"}
RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2, -1], 10)
X = (RNG.normal(size=(40, 6)) + 3 * np.eye(4, 6)[LABELS]).astype(np.float32)
URL = "/v1/datasets/mine"


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def files_in(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.data_dir / "datasets").glob("*"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the process that reads an upload, for tests of all else."""
    contents = Contents(items=1, dimension=1, labelled=0, classes=0, queries=0)
    monkeypatch.setattr(Datasets, "_checked", lambda *_: contents)


class Inside:
    """Stands for the process that reads an upload, and reads it at once."""

    def __init__(self, work: Any, task: Task, threads: int) -> None:
        self.work, self.task = work, task

    def start(self) -> None:
        pass

    def follow(self, on_progress: Any) -> Outcome:
        try:
            outcome: Outcome = self.work(self.task, on_progress)
        except ValueError as error:
            raise JobFailed(str(error)) from None
        return outcome


def test_an_uploaded_dataset_is_listed_used_and_deleted(
    client: TestClient, settings: Settings
) -> None:
    body = npz(descriptors=X, labels=LABELS)
    answer = client.put(URL, content=body, headers=FILE)
    assert answer.status_code == 201, answer.text
    held = {"items": 40, "dimension": 6, "labelled": 30, "classes": 3, "queries": 0}
    shown = client.get(URL).json()
    assert answer.json() == shown | held
    assert (shown["dataset"], shown["bytes"]) == ("mine", len(body))
    assert client.get("/v1/datasets").json() == ["digits", "mine"]
    assert (settings.data_dir / "datasets" / "mine.dataset").read_bytes() == body
    new = {"name": "t", "method": "pcah", "n_bits": 4, "training": {"dataset": "mine"}}
    job = client.post("/v1/encoders", json=new).json()["id"]
    assert_problem(client.delete(URL), 409, "is used by a job that waits or runs")
    assert ended(client, job)["state"] == "done"
    assert client.delete(URL).status_code == 204
    assert client.get("/v1/datasets").json() == ["digits"]
    assert files_in(settings) == []
    assert_problem(client.get(URL), 404, "there is no dataset 'mine'; there are digits")
    assert_problem(client.delete(URL), 404, "there is no dataset 'mine'")


def test_what_is_no_dataset_is_refused_and_leaves_nothing(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_files, "JobProcess", Inside)
    damaged = {
        "mine is in no format that is read here": b"x" * 5000,
        "bytes are stored for it": npy(X)[:-500],
        "mine has no array 'descriptors'": npz(labels=LABELS),
        "is nan": npy(np.where(X[3, 3] == X, np.nan, X)),
    }
    for message, body in damaged.items():
        answer = client.put(URL, content=body, headers=FILE)
        assert_problem(answer, 422, message)
        assert "partial" not in answer.json()["detail"]
    assert files_in(settings) == []
    assert client.get("/v1/datasets").json() == ["digits"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "name", ["..", ".hidden", "../bitcell.db", "a/b", "a\nb", "\x00", "x" * 65, "é", "a b"]
)
def test_names_that_are_not_plain_are_refused(
    name: str, client: TestClient, settings: Settings
) -> None:
    url = f"/v1/datasets/{quote(name, safe='')}"
    for method in ("PUT", "GET", "DELETE"):
        answer = client.request(method, url, content=npy(X) if method == "PUT" else None)
        assert answer.status_code in (404, 405, 422), answer.text
    assert files_in(settings) == []


@pytest.mark.usefixtures("quick")
def test_names_are_given_once_and_the_built_in_dataset_stays(
    client: TestClient, settings: Settings
) -> None:
    assert_problem(client.put("/v1/datasets/digits", content=b"x"), 409, "already a dataset")
    assert_problem(client.delete("/v1/datasets/digits"), 409, "comes with the service")
    assert client.get("/v1/datasets/digits").json() == {
        "dataset": "digits",
        "bytes": None,
        "created": None,
    }
    folder = settings.data_dir / "datasets"
    folder.mkdir()
    np.savez(folder / "old.npz", descriptors=X)
    assert_problem(client.put("/v1/datasets/old", content=b"x"), 409, "already a dataset 'old'")
    assert client.put("/v1/datasets/v1.2", content=b"x").status_code == 201
    assert client.get("/v1/datasets").json() == ["digits", "old", "v1.2"]
    assert client.delete("/v1/datasets/old").status_code == 204
    assert [path.name for path in folder.iterdir()] == ["v1.2.dataset"]


@pytest.mark.usefixtures("quick")
def test_a_queued_benchmark_keeps_its_dataset(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put(URL, content=b"x")
    monkeypatch.setattr(Jobs, "_enqueue", lambda self, entry: self._open.update({entry.id: entry}))
    new = {"dataset": "mine", "methods": ["lsh"]}
    job = client.post("/v1/benchmarks", json=new).json()["id"]
    assert_problem(client.delete(URL), 409, "is used by a job")
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    assert client.delete(URL).status_code == 204
    assert_problem(client.post("/v1/benchmarks", json=new), 404, "there is no dataset 'mine'")


@pytest.mark.usefixtures("quick")
def test_an_upload_may_be_larger_than_a_body_but_not_than_the_limit(settings: Settings) -> None:
    tight = settings.model_copy(update={"max_body": 2000, "max_datasets": 50_000})
    with TestClient(create_app(tight)) as client:
        assert client.put(URL, content=b"x" * 40_000, headers=FILE).status_code == 201
        refused = client.put("/v1/datasets/other", content=b"x" * 11_000, headers=FILE)
        assert_problem(refused, 507, "BITCELL_MAX_DATASETS); the others take 40,000")
        assert client.put("/v1/datasets/other", content=b"x" * 9_000).status_code == 201
    assert files_in(settings) == ["mine.dataset", "other.dataset"]


def test_few_datasets_are_uploaded_at_a_time(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_files, "JobProcess", Inside)
    datasets: Datasets = client.app.state.service.datasets  # type: ignore[attr-defined]
    places = [datasets._place() for _ in range(AT_ONCE)]
    for place in places:
        place.__enter__()
    assert_problem(client.put(URL, content=b"x"), 503, "datasets are being uploaded")
    for place in places:
        place.__exit__(None, None, None)
    assert_problem(client.put(URL, content=b"x"), 422, "in no format")


@pytest.mark.usefixtures("quick")
def test_a_read_key_may_only_look(settings: Settings) -> None:
    with closing(Keys(settings.data_dir)) as keys:
        _, secret = keys.create("reader", READ)
    with TestClient(create_app(settings)) as client:
        headers = {"Authorization": f"Bearer {secret}"}
        assert client.get("/v1/datasets", headers=headers).status_code == 200
        assert client.get("/v1/datasets/digits", headers=headers).status_code == 200
        for method in ("PUT", "DELETE"):
            answer = client.request(method, URL, headers=headers)
            assert_problem(answer, 403, "may only read")


def test_a_process_that_is_killed_is_an_error_of_the_upload(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = JobProcess

    def killed(*given: Any, **more: Any) -> Any:
        made = process(*given, **more)
        start = made.start

        def start_and_kill() -> None:
            start()
            made.kill()

        made.start = start_and_kill  # type: ignore[method-assign]
        return made

    monkeypatch.setattr(dataset_files, "JobProcess", killed)
    assert_problem(client.put(URL, content=npy(X)), 422, "ended without a result")
    assert files_in(settings) == []


def test_the_name_of_a_dataset_says_what_its_values_are(settings: Settings, tmp_path: Path) -> None:
    """Half of these integers would be plausible floats: tiny ones, and some up to 1."""
    values = np.random.default_rng(0).integers(0, 1 << 30, (500, 4))
    records = np.zeros(500, [("d", "<i4"), ("v", "<i4", 4)])
    records["d"], records["v"] = 4, values
    folder = settings.data_dir / "datasets"
    folder.mkdir(parents=True)
    for name in ("large", "large.ivecs", "large.fvecs"):
        records.tofile(folder / f"{name}.dataset")
    expected, as_floats = values.astype(np.float32), values.astype("<i4").view("<f4")
    for name, read in (("large.ivecs", expected), ("large.fvecs", as_floats), ("large", as_floats)):
        found = load_dataset(name, settings.data_dir).descriptors
        np.testing.assert_array_equal(found, read)
    # A file keeps what its own name says, whatever the dataset is called.
    records.tofile(tmp_path / "x.ivecs")
    found = read_dataset(tmp_path / "x.ivecs", "large.fvecs").descriptors
    np.testing.assert_array_equal(found, expected)


def test_an_upload_is_read_as_its_name_says(client: TestClient, settings: Settings) -> None:
    """A NaN of float32 is an integer of int32."""
    records = np.zeros(20, [("d", "<i4"), ("v", "<i4", 2)])
    records["d"], records["v"] = 2, np.arange(40).reshape(20, 2)
    records["v"][3, 1] = 0x7FC00000
    body = records.tobytes()
    refused = client.put("/v1/datasets/n.fvecs", content=body, headers=FILE)
    assert_problem(refused, 422, "row 3, column 1 is nan")
    assert files_in(settings) == []
    stored = client.put("/v1/datasets/n.ivecs", content=body, headers=FILE)
    assert stored.status_code == 201, stored.text
    assert load_dataset("n.ivecs", settings.data_dir).descriptors[3, 1] == 0x7FC00000


def test_all_formats_are_recognised_by_their_content(tmp_path: Path, settings: Settings) -> None:
    h5py = pytest.importorskip("h5py")
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    with h5py.File(tmp_path / "h", "w") as file:
        file["train"], file["test"] = X, X[:3]
    parquet.write_table(pa.table({"emb": list(X), "label": LABELS}), tmp_path / "p")
    records = np.zeros(len(X), [("d", "<i4"), ("v", "<f4", 6)])
    records["d"], records["v"] = 6, X
    records.tofile(tmp_path / "f")
    np.save(tmp_path / "n", X)
    for name, labelled, queries in (("h", 0, 3), ("p", 30, 0), ("f", 0, 0), ("n.npy", 0, 0)):
        task = Task(tmp_path, tmp_path, {"file": str(tmp_path / name), "name": name}, None)
        found = dataset_check.work(task, lambda *_: None).result
        assert (found["items"], found["dimension"]) == (40, 6)
        assert (found["labelled"], found["queries"]) == (labelled, queries)
