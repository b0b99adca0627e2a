"""Jobs: what becomes of them, whatever happens."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.errors import TooMany
from app.jobs.kind import Kind, Outcome, Progress, Task
from app.jobs.queue import MAX_STARTS, Jobs
from app.jobs.training import pack, work
from app.main import create_app
from app.service.settings import Settings
from hashing import make_hasher
from index import Database, NotFound
from tests.app.jobs import job_works
from tests.app.jobs.waiting import end_of, ended, until


def _leave_a_file(request: dict[str, Any], folder: Path, progress: Progress) -> None:
    (folder / "for-it").write_bytes(b"ab")


def _fail_late(request: dict[str, Any], outcome: Outcome) -> Outcome:
    raise RuntimeError("the end went wrong")


KINDS = {
    "look": Kind(job_works.look_around),
    "endless": Kind(job_works.never_end),
    "step": Kind(job_works.step),
    "refuse": Kind(job_works.refuse),
    "die": Kind(job_works.die),
    "late": Kind(job_works.step, finish=_fail_late),
    "prepared": Kind(job_works.read_its_file, prepare=_leave_a_file),
    "inside": Kind(job_works.step_on, inside=True),
}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "bitcell.db")
    yield database
    database.close()


@pytest.fixture
def start(database: Database, tmp_path: Path) -> Iterator[Callable[..., Jobs]]:
    """Make the jobs of a service that starts; the one before must be closed."""
    made: list[Jobs] = []

    def make(**options: Any) -> Jobs:
        made.append(Jobs(database, tmp_path, KINDS, **options))
        made[-1].resume()
        return made[-1]

    yield make
    for jobs in made:
        jobs.close()


def runs(shown: dict[str, Any]) -> bool:
    return bool(shown["state"] == "running" and shown["progress"]["done"] > 0)


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return bool(state == "Z")


def test_its_process_stays_behind_the_service(start: Callable[..., Jobs]) -> None:
    jobs = start()
    job = jobs.add("look", {"a": [1]}, b"material")
    shown = end_of(jobs, job)
    assert shown["state"] == "done", shown
    result = shown["result"]
    assert result["nice"] == 19
    assert result["blas"]
    assert set(result["blas"]) == {max(1, (os.cpu_count() or 1) - 1)}
    assert result["heavy"] == []
    assert result["ignored"] == [True, True]
    assert result["request"] == shown["request"] == {"a": [1]}
    assert jobs.output(job, "look") == b"lairetam"
    assert shown["created"] <= shown["started"] <= shown["ended"]


def test_what_is_prepared_is_worked_on_and_goes(start: Callable[..., Jobs], tmp_path: Path) -> None:
    left = tmp_path / "jobs" / "of-a-crash"
    left.mkdir(parents=True)
    jobs = start()
    assert not left.exists()
    job = jobs.add("prepared", {}, b"c")
    assert end_of(jobs, job)["state"] == "done"
    assert jobs.output(job, "prepared") == b"cab"
    assert list((tmp_path / "jobs").iterdir()) == []


def test_one_inside_the_service_can_be_cancelled_and_is_taken_up_again(
    start: Callable[..., Jobs],
) -> None:
    jobs = start()
    first = jobs.add("inside", {})
    assert until(jobs, first, runs)["progress"]["now"] == str(os.getpid())
    jobs.remove(first)
    assert end_of(jobs, first)["state"] == "cancelled"
    second = jobs.add("inside", {})
    until(jobs, second, runs)
    jobs.close()
    assert jobs.get(second)["state"] == "queued"
    jobs = start()
    until(jobs, second, runs)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("refuse", "there is a reason"),
        ("die", "the process of the job ended without a result (exit code 7)"),
        ("late", "the end went wrong"),
    ],
)
def test_what_goes_wrong_is_its_error(kind: str, error: str, start: Callable[..., Jobs]) -> None:
    jobs = start()
    shown = end_of(jobs, jobs.add(kind, {}))
    assert (shown["state"], shown["error"], shown["progress"]) == ("failed", error, None)


def test_time_left_follows_from_progress(start: Callable[..., Jobs]) -> None:
    jobs = start()
    job = jobs.add("endless", {})
    shown = until(jobs, job, runs)
    progress = shown["progress"]
    assert (progress["done"], progress["of"]) == (1, 4)
    # Three steps are left after one.
    assert progress["seconds_left"] >= 0
    assert jobs.newest()[0]["progress"] == progress


def test_what_runs_and_what_waits_can_be_cancelled(start: Callable[..., Jobs]) -> None:
    jobs = start(workers=1)
    running, waiting = jobs.add("endless", {}), jobs.add("endless", {})
    pid = int(until(jobs, running, runs)["progress"]["now"])
    jobs.remove(waiting)
    assert jobs.get(waiting)["state"] == "cancelled"
    jobs.remove(running)
    assert end_of(jobs, running)["state"] == "cancelled"
    assert gone(pid)
    jobs.remove(running)
    with pytest.raises(NotFound):
        jobs.get(running)
    with pytest.raises(NotFound):
        jobs.remove(running)
    assert end_of(jobs, jobs.add("step", {}))["state"] == "done"


def test_no_more_are_taken_than_the_limit(start: Callable[..., Jobs]) -> None:
    jobs = start(limit=2)
    first, _ = jobs.add("endless", {}), jobs.add("endless", {})
    with pytest.raises(TooMany, match="2 jobs are queued or running"):
        jobs.add("step", {})
    assert len(jobs.newest()) == 2
    jobs.remove(first)
    end_of(jobs, first)
    jobs.add("endless", {})


def test_a_stop_in_good_order_leaves_them_for_the_next_start(start: Callable[..., Jobs]) -> None:
    for _ in range(MAX_STARTS + 1):
        jobs = start(workers=1)
        if not jobs.newest():
            jobs.add("endless", {})
            jobs.add("look", {}, b"kept")
        running, waiting = (shown["id"] for shown in reversed(jobs.newest()))
        pid = int(until(jobs, running, runs)["progress"]["now"])
        jobs.close()
        assert gone(pid)
        assert [shown["state"] for shown in jobs.newest()] == ["queued", "queued"]
    jobs = start(workers=2)
    assert end_of(jobs, waiting)["state"] == "done"
    assert jobs.output(waiting, "look") == b"tpek"


def test_one_that_a_service_was_killed_with_too_often_fails(
    start: Callable[..., Jobs], database: Database
) -> None:
    jobs = start()
    job = jobs.add("step", {})
    end_of(jobs, job)
    jobs.close()
    with database.transaction() as connection:
        # As a crash leaves it.
        connection.execute("UPDATE jobs SET state = 'running', starts = ?", (MAX_STARTS,))
    shown = start().get(job)
    assert shown["state"] == "failed"
    assert shown["error"] == "the service was killed 3 times while it ran"


def test_benchmarks_of_the_first_version_are_kept(
    start: Callable[..., Jobs], database: Database
) -> None:
    with database.transaction() as connection:
        connection.execute(
            "CREATE TABLE benchmarks (id TEXT PRIMARY KEY, state TEXT NOT NULL, "
            "request TEXT NOT NULL, result TEXT, error TEXT, report TEXT) STRICT"
        )
        connection.execute("INSERT INTO benchmarks VALUES ('a','done','{}','{\"x\": 1}',NULL,'ü')")
        connection.execute("INSERT INTO benchmarks VALUES ('b','running','{}',NULL,NULL,NULL)")
    jobs = start()
    assert jobs.output("a", "benchmark") == "ü".encode()
    assert jobs.get("a")["result"] == {"x": 1}
    assert jobs.get("b")["error"] == "the service stopped before it was done"
    assert [shown["id"] for shown in start().newest("benchmark")] == ["b", "a"]


# Over HTTP


def train(client: TestClient, **change: Any) -> Any:
    new = {"name": "t", "method": "itq", "n_bits": 8, "training": {"dataset": "digits"}}
    return client.post("/v1/encoders", json=new | change)


def test_a_training_is_followed_to_its_encoder(client: TestClient) -> None:
    accepted = train(client)
    assert accepted.status_code == 202
    job = accepted.json()["id"]
    assert accepted.headers["location"] == accepted.json()["url"] == f"/v1/jobs/{job}"
    twice = train(client)
    assert twice.status_code == 409
    assert "is being trained already" in twice.json()["detail"]
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


def test_a_training_is_told_the_mirror_of_its_dataset(
    tmp_path: Path, X: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    mirror = np.arange(X.shape[1])[::-1]
    np.savez(datasets / "m.npz", descriptors=X[:9], labels=np.arange(9) % 3, mirror=mirror)
    asked: dict[str, Any] = {}

    def made(method: str, **parameters: Any) -> Any:
        asked.update(parameters)
        return make_hasher("lsh", n_bits=8)

    monkeypatch.setattr("app.jobs.training.make_hasher", made)
    request = {"name": "t", "method": "net-2", "n_bits": 8, "params": {"noise": 1.0}}
    task = Task(tmp_path, tmp_path, request | {"training": {"dataset": "m"}}, None)
    work(task, lambda done, of, now: None)
    assert asked == {"n_bits": 8, "noise": 1.0, "mirror": mirror.tolist()}


def test_a_training_whose_encoder_was_kept_before_a_crash_is_done(
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


@pytest.mark.parametrize(
    ("status", "message", "change"),
    [
        (422, "ksh learns from labels", {"method": "ksh", "training": {"descriptors": [[1, 2]]}}),
        (422, "expected one of descriptors, dataset and collection", {"training": {}}),
        (422, "labels go with descriptors", {"training": {"dataset": "digits", "labels": [1]}}),
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
def test_what_cannot_be_trained_is_refused_at_once(
    status: int, message: str, change: Any, client: TestClient
) -> None:
    answer = train(client, **change)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["detail"]
    assert client.get("/v1/jobs").json() == []


def test_without_torch_a_net_is_refused_at_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    answer = train(client, method="net-1", training={"descriptors": [[1, 2]], "labels": [0]})
    assert answer.status_code == 422
    assert "torch, which is not installed" in answer.json()["detail"]


def test_a_full_queue_is_said(settings: Settings) -> None:
    few = settings.model_copy(update={"max_jobs": 1})
    with TestClient(create_app(few)) as client:
        first = train(client).json()["id"]
        full = train(client, name="u")
        assert full.status_code == 429
        assert full.headers["retry-after"] == "10"
        assert "BITCELL_MAX_JOBS" in full.json()["detail"]
        client.delete(f"/v1/jobs/{first}")


def test_a_training_goes_on_after_a_restart(settings: Settings) -> None:
    X = np.random.default_rng(0).normal(size=(300, 20))
    training = {"descriptors": X.tolist(), "labels": (X[:, 0] > 0).astype(int).tolist()}
    with TestClient(create_app(settings)) as client:
        job = train(client, method="sdh", training=training).json()["id"]
    with TestClient(create_app(settings)) as client:
        assert ended(client, job)["state"] == "done"
        assert client.get("/v1/encoders/t").json()["method"] == "sdh"


def test_events_of_what_is_not_there(client: TestClient) -> None:
    assert client.get("/v1/jobs/none/events").status_code == 404
    assert client.get("/v1/jobs/none").status_code == 404
    assert client.delete("/v1/jobs/none").status_code == 404
