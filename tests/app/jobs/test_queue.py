"""The queue of jobs: states, errors, cancelling, limits, stops and crashes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from app.database.embedded import EmbeddedState
from app.errors import TooMany
from app.jobs.folders import MARKER, NAME
from app.jobs.kind import Kind
from app.jobs.open_job import OpenJob
from app.jobs.process import INTERRUPT
from app.jobs.queue import MAX_STARTS, Jobs
from index import Database, NotFound
from tests.app.jobs import work_functions
from tests.app.jobs.waiting import end_of, until


def is_running(shown: dict[str, Any]) -> bool:
    """Return whether a job has reported progress."""
    return bool(shown["state"] == "running" and shown["progress"]["done"] > 0)


def has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return bool(state == "Z")


def test_the_process_of_a_job_gives_way_to_the_service(start: Callable[..., Jobs]) -> None:
    jobs = start()
    job = jobs.add("describe", {"a": [1]}, b"material")
    shown = end_of(jobs, job)
    assert shown["state"] == "done", shown
    result = shown["result"]
    assert result["nice"] == 19
    assert result["blas"]
    assert set(result["blas"]) == {max(1, (os.cpu_count() or 1) - 1)}
    assert result["heavy"] == []
    assert result["ignored"] == [True, True]
    assert result["request"] == shown["request"] == {"a": [1]}
    assert jobs.output(job, "describe") == b"lairetam"
    assert shown["created"] <= shown["started"] <= shown["ended"]


def test_a_job_reads_what_was_prepared_and_its_folder_is_deleted(
    start: Callable[..., Jobs], tmp_path: Path
) -> None:
    jobs = start()
    job = jobs.add("prepared", {}, b"c")
    assert end_of(jobs, job)["state"] == "done"
    assert jobs.output(job, "prepared") == b"cab"
    assert [path.name for path in (tmp_path / NAME).iterdir()] == [MARKER]


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_only_folders_of_jobs_are_deleted_at_start(
    start: Callable[..., Jobs], tmp_path: Path
) -> None:
    jobs = start()
    job = jobs.add("prepared", {}, b"c")
    end_of(jobs, job)
    jobs.close(30)
    kept = ["jobs/notes.txt", "jobs/0123456789ab/mine", "jobs/deadbeef/mine", f"jobs/x{job}/mine"]
    kept += [f"{NAME}/mine.txt", f"{NAME}/folder/mine"]
    # An earlier version was killed while a job ran, and so was this one.
    left = [f"jobs/{job}/ids.npy", f"{NAME}/{job}/ids.npy", f"{NAME}/0123456789ab/ids.npy"]
    for name in kept + left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / NAME / "aaaaaaaaaaaa").symlink_to(tmp_path / "jobs")
    before = files_below(tmp_path) - set(left)
    start()
    assert set(kept) <= files_below(tmp_path)
    assert files_below(tmp_path) == before


def test_a_folder_that_is_not_ours_is_left_alone(
    start: Callable[..., Jobs], tmp_path: Path
) -> None:
    """Without the marker, folders are deleted when their job ends and not otherwise."""
    (tmp_path / NAME / "0123456789ab").mkdir(parents=True)
    jobs = start()
    assert end_of(jobs, jobs.add("prepared", {}, b"c"))["state"] == "done"
    jobs.close(30)
    start()
    assert [path.name for path in (tmp_path / NAME).iterdir()] == ["0123456789ab"]


def test_a_job_inside_the_service_can_be_cancelled_and_is_run_again(
    start: Callable[..., Jobs],
) -> None:
    jobs = start()
    first = jobs.add("inside", {})
    assert until(jobs, first, is_running)["progress"]["now"] == str(os.getpid())
    jobs.remove(first)
    assert end_of(jobs, first)["state"] == "cancelled"
    second = jobs.add("inside", {})
    until(jobs, second, is_running)
    assert jobs.close(30)
    assert jobs.get(second)["state"] == "queued"
    jobs = start()
    until(jobs, second, is_running)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("refuse", "there is a reason"),
        ("die", "the process of the job ended without a result (exit code 7)"),
        ("fail at the end", "the end went wrong"),
    ],
)
def test_a_job_fails_with_the_reason(kind: str, error: str, start: Callable[..., Jobs]) -> None:
    jobs = start()
    shown = end_of(jobs, jobs.add(kind, {}))
    assert (shown["state"], shown["error"], shown["progress"]) == ("failed", error, None)


def test_the_time_left_is_estimated_from_progress(start: Callable[..., Jobs]) -> None:
    jobs = start()
    job = jobs.add("endless", {})
    shown = until(jobs, job, is_running)
    progress = shown["progress"]
    assert (progress["done"], progress["of"]) == (1, 4)
    assert progress["seconds_left"] >= 0
    assert jobs.newest()[0]["progress"] == progress


def test_running_and_queued_jobs_can_be_cancelled(start: Callable[..., Jobs]) -> None:
    jobs = start(workers=1)
    running, queued = jobs.add("endless", {}), jobs.add("endless", {})
    pid = int(until(jobs, running, is_running)["progress"]["now"])
    jobs.remove(queued)
    assert jobs.get(queued)["state"] == "cancelled"
    jobs.remove(running)
    assert end_of(jobs, running)["state"] == "cancelled"
    assert has_ended(pid)
    jobs.remove(running)
    with pytest.raises(NotFound):
        jobs.get(running)
    with pytest.raises(NotFound):
        jobs.remove(running)
    assert end_of(jobs, jobs.add("short", {}))["state"] == "done"


def test_the_queue_refuses_jobs_beyond_its_limit(start: Callable[..., Jobs]) -> None:
    jobs = start(limit=2)
    first, _ = jobs.add("endless", {}), jobs.add("endless", {})
    with pytest.raises(TooMany, match="2 jobs are queued or running"):
        jobs.add("short", {})
    assert len(jobs.newest()) == 2
    jobs.remove(first)
    end_of(jobs, first)
    jobs.add("endless", {})


def test_jobs_run_again_after_an_orderly_stop_however_often(start: Callable[..., Jobs]) -> None:
    for _ in range(MAX_STARTS + 1):
        jobs = start(workers=1)
        if not jobs.newest():
            jobs.add("endless", {})
            jobs.add("describe", {}, b"kept")
        running, queued = (shown["id"] for shown in reversed(jobs.newest()))
        pid = int(until(jobs, running, is_running)["progress"]["now"])
        assert jobs.close(30)
        assert has_ended(pid)
        assert [shown["state"] for shown in jobs.newest()] == ["queued", "queued"]
    jobs = start(workers=2)
    assert end_of(jobs, queued)["state"] == "done"
    assert jobs.output(queued, "describe") == b"tpek"


def test_a_job_fails_if_the_service_was_killed_too_often_while_it_ran(
    start: Callable[..., Jobs], database: Database
) -> None:
    jobs = start()
    job = jobs.add("short", {})
    end_of(jobs, job)
    assert jobs.close(30)
    with database.transaction() as connection:
        # What a crash leaves.
        connection.execute("UPDATE jobs SET state = 'running', starts = ?", (MAX_STARTS,))
    shown = start().get(job)
    assert shown["state"] == "failed"
    assert shown["error"] == "the service was killed 3 times while it ran"


def test_benchmarks_of_version_0_1_0_are_kept(
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


def test_a_preparation_that_ignores_the_stop_does_not_delay_it(
    database: Database, tmp_path: Path
) -> None:
    begun, go_on = Event(), Event()

    def wait_without_progress(*_: Any) -> None:
        begun.set()
        go_on.wait()

    kinds = {"deaf": Kind(work_functions.three_steps, prepare=wait_without_progress)}
    jobs = Jobs(EmbeddedState(database), tmp_path, kinds)
    job = jobs.add("deaf", {})
    assert begun.wait(30)
    assert not jobs.close(0.1)
    assert jobs.get(job)["state"] == "queued"
    go_on.set()
    assert jobs.close(30)
    assert jobs.get(job)["state"] == "queued"


def test_a_cancelled_job_keeps_what_it_returns_when_interrupted(
    start: Callable[..., Jobs],
) -> None:
    jobs = start()
    job = jobs.add("interruptible", {})
    until(jobs, job, is_running)
    jobs.remove(job)
    shown = end_of(jobs, job)
    assert (shown["state"], shown["result"]) == ("cancelled", {"rows": 1})
    assert jobs.output(job, "interruptible") == b"half a report"


def test_a_second_cancel_kills_a_job_that_ignores_the_first(start: Callable[..., Jobs]) -> None:
    jobs = start()
    job = jobs.add("deaf", {})
    pid = int(until(jobs, job, is_running)["progress"]["now"])
    jobs.remove(job)
    until(jobs, job, lambda shown: shown["progress"]["done"] == 2)
    jobs.remove(job)
    shown = end_of(jobs, job)
    assert (shown["state"], shown["result"]) == ("cancelled", None)
    assert has_ended(pid)


def test_a_process_that_ends_just_before_it_is_interrupted_is_no_error(
    start: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = os.kill

    def too_late(pid: int, number: int) -> None:
        if number == INTERRUPT:
            raise ProcessLookupError
        kill(pid, number)

    jobs = start()
    job = jobs.add("interruptible", {})
    until(jobs, job, is_running)
    monkeypatch.setattr("os.kill", too_late)
    jobs.remove(job)
    jobs.remove(job)
    assert end_of(jobs, job)["state"] == "cancelled"


def test_a_job_that_does_not_end_in_time_when_interrupted_is_killed(
    start: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.process.INTERRUPT_SECONDS", 0.01)
    jobs = start()
    job = jobs.add("deaf", {})
    until(jobs, job, is_running)
    jobs.remove(job)
    assert end_of(jobs, job)["state"] == "cancelled"


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_durations_do_not_depend_on_the_clock_that_someone_sets(
    step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = OpenJob("a", "describe", {})
    entry.start()
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + step)
    entry.note_progress(1, 2, "half")
    assert 0 <= entry.seconds() < 60
    assert 0 <= entry.progress["seconds_left"] < 60
