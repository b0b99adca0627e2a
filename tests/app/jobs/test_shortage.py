"""Jobs wait while the system is short of something, and are tried again."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from app.database.embedded import EmbeddedState
from app.jobs import queue
from app.jobs.folders import MARKER, NAME
from app.jobs.kind import Kind, Outcome, Progress, Task
from app.jobs.queue import Jobs
from index import Database, Unavailable
from tests.app.jobs import work_functions
from tests.app.jobs.waiting import end_of, until
from tests.no_more_files import no_more_files


def is_waiting(shown: dict[str, Any]) -> bool:
    return shown["progress"] is not None and "is short of" in shown["progress"]["now"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "RETRY_SECONDS", (0.02,) * 1000)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("spare", [0, 4])
def test_jobs_wait_for_file_descriptors(
    spare: int, start: Callable[..., Jobs], tmp_path: Path
) -> None:
    """With none they lack them for their folder, with some for their process."""
    jobs = start()
    # What the first process of all opens is not missing.
    end_of(jobs, jobs.add("short", {}))
    with no_more_files(spare):
        waiting = [jobs.add("prepared", {}, b"c"), jobs.add("short", {})]
        for job in waiting:
            shown = until(jobs, job, is_waiting)
            assert shown["state"] == "queued"
            assert shown["progress"]["now"] == "waiting: the service is short of file descriptors"
    assert [end_of(jobs, job)["state"] for job in waiting] == ["done", "done"]
    assert jobs.output(waiting[0], "prepared") == b"cab"
    assert [path.name for path in (tmp_path / NAME).iterdir()] == [MARKER]


def test_a_waiting_job_can_be_cancelled_and_does_not_delay_a_stop(
    start: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "RETRY_SECONDS", (600,))
    jobs = start()
    with no_more_files():
        first, second = jobs.add("short", {}), jobs.add("short", {})
        for job in (first, second):
            until(jobs, job, is_waiting)
        jobs.remove(first)
        assert end_of(jobs, first)["state"] == "cancelled"
        assert jobs.close(30)
    assert jobs.get(second)["state"] == "queued"
    assert end_of(start(), second)["state"] == "done"


def test_a_job_for_which_there_is_no_thread_is_not_accepted(
    start: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = start()

    def fail(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            jobs.add("short", {})
    assert jobs.newest() == []
    # The pool still has the work, and finds that it is not wanted.
    assert end_of(jobs, jobs.add("short", {}))["state"] == "done"
    assert len(jobs.newest()) == 1


def short_of_memory(task: Task, progress: Progress) -> Outcome:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def cannot_read(task: Task, progress: Progress) -> Outcome:
    raise OSError(errno.EIO, "Input/output error")


def fill_the_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("kind", "error", "starts"),
    [
        (Kind(short_of_memory), "Cannot allocate memory", 2),
        (Kind(cannot_read), "Input/output error", 1),
        (Kind(work_functions.three_steps, prepare=fill_the_disk), "the disk is full: ", 0),
    ],
)
def test_a_job_fails_with_the_reason_if_waiting_does_not_help(
    kind: Kind,
    error: str,
    starts: int,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "RETRY_SECONDS", (0.0,))
    started = []
    monkeypatch.setattr(Jobs, "_start", lambda self, entry: started.append(entry.start()))
    jobs = Jobs(EmbeddedState(database), tmp_path, {"kind": kind})
    shown = end_of(jobs, jobs.add("kind", {}))
    assert shown["state"] == "failed"
    assert error in shown["error"]
    assert len(started) == starts
    assert jobs.close(30)


class Finish:
    """A `Kind.finish` that fails while a server does not answer. It counts its tries."""

    def __init__(self) -> None:
        self.works, self.tries, self.server_is_up = 0, 0, Event()

    def work(self, task: Task, progress: Progress) -> Outcome:
        self.works += 1
        return Outcome({"work": self.works}, b"trained")

    def __call__(self, request: dict[str, Any], outcome: Outcome) -> Outcome:
        self.tries += 1
        if not self.server_is_up.is_set():
            raise Unavailable("the database cannot be reached")
        return outcome


def waits_for_the_database(shown: dict[str, Any]) -> bool:
    progress = shown["progress"]
    return progress is not None and progress["now"] == "waiting: the database cannot be reached"


def test_work_is_not_repeated_if_a_server_does_not_take_its_result(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "RETRY_SECONDS", (0.01,) * 1000)
    finish = Finish()
    kind = Kind(finish.work, inside=True, finish=finish)
    jobs = Jobs(EmbeddedState(database), tmp_path, {"train": kind})
    job = jobs.add("train", {})
    shown = until(jobs, job, lambda now: waits_for_the_database(now) and finish.tries > 2)
    assert shown["state"] == "running"
    finish.server_is_up.set()
    shown = end_of(jobs, job)
    assert (shown["state"], shown["result"], finish.works) == ("done", {"work": 1}, 1)
    assert jobs.output(job, "train") == b"trained"
    assert jobs.close(30)


def test_a_job_that_waits_to_finish_can_be_cancelled_and_does_not_delay_a_stop(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "RETRY_SECONDS", (600,))
    finish = Finish()
    kinds = {"train": Kind(finish.work, inside=True, finish=finish)}
    jobs = Jobs(EmbeddedState(database), tmp_path, kinds, workers=1)
    job = jobs.add("train", {})
    until(jobs, job, waits_for_the_database)
    jobs.remove(job)
    assert end_of(jobs, job)["state"] == "cancelled"
    job = jobs.add("train", {})
    until(jobs, job, waits_for_the_database)
    assert jobs.close(30)
    assert jobs.get(job)["state"] == "queued"
    assert finish.tries == 2
