"""Jobs of several replicas over one PostgreSQL database."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Executable, delete, select, text, update

from app.database.shared import SharedState
from app.database.state import Execute
from app.database.tables import job_claims, jobs
from app.errors import TooMany
from app.jobs import queue
from app.jobs.kind import Kind, Outcome, Progress, Task
from app.jobs.queue import MAX_STARTS, Jobs
from app.jobs.record import JobRecord, NotOurs
from app.jobs.shared.claims import Claims
from index import NotFound, Unavailable
from tests.app.jobs.conftest import KINDS
from tests.app.jobs.test_queue import has_ended, is_running
from tests.app.jobs.waiting import end_of, until, until_left

Start = Callable[..., Jobs]


@pytest.fixture
def state(shared_state: SharedState) -> SharedState:
    with shared_state.writing() as execute:
        execute(delete(jobs))
    return shared_state


@pytest.fixture
def start(state: SharedState, tmp_path: Path) -> Iterator[Start]:
    """Start a replica, which looks into the database twenty times a second."""
    with ExitStack() as stack:

        def start_replica(
            kinds: dict[str, Kind] = KINDS, state: SharedState = state, **options: Any
        ) -> Jobs:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            started = Jobs(state, folder, kinds, **{"beat": 0.05} | options)
            stack.callback(started.close, 30)
            started.resume()
            return started

        yield start_replica


def kill(replica: Jobs) -> None:
    """Let a replica end as if it had been killed long ago: it records nothing."""
    replica._replica.close(30)
    for entry in replica._open.values():
        if entry.process is not None:
            entry.process.kill()
    replica._open.clear()  # As if its threads had ended with it.
    assert replica._claims is not None
    with replica._claims._state.writing() as execute:
        mine = job_claims.c.owner == replica._claims.owner
        execute(update(job_claims).where(mine).values(heartbeat=0))


def test_each_job_runs_once(start: Start) -> None:
    ran = Counter[str]()

    def count(task: Task, progress: Progress) -> Outcome:
        ran[task.request["n"]] += 1
        return Outcome({"n": task.request["n"]})

    kinds = {"count": Kind(count, inside=True)}
    first, second = (start(kinds, workers=2, limit=100) for _ in range(2))
    added = [(first, second)[n % 2].add("count", {"n": str(n)}) for n in range(20)]
    ended = [end_of(second, job) for job in added]
    assert [one["result"]["n"] for one in ended] == [str(n) for n in range(20)]
    assert ran == {str(n): 1 for n in range(20)}
    assert first.counts() == [("count", "done", 20)]
    assert [job["id"] for job in first.newest()] == added[::-1]


def test_progress_and_results_are_seen_by_all(start: Start) -> None:
    def report(task: Task, progress: Progress) -> Outcome:
        progress(1, 3, "half way")
        assert go_on.wait(30)
        return Outcome({"ok": True}, b"0123456789")

    go_on = Event()
    running = start({"report": Kind(report, inside=True)})
    watching = start({})  # It knows no kind of job, so that it takes none.
    job = watching.add("report", {"x": [1]}, b"material")
    shown = until(watching, job, is_running)
    assert (shown["progress"]["now"], shown["request"]) == ("half way", {"x": [1]})
    assert watching.newest("report")[0]["progress"]["of"] == 3
    assert watching.open_requests("report") == [{"x": [1]}]
    go_on.set()
    assert end_of(watching, job)["result"] == {"ok": True}
    assert watching.output(job, "report") == b"0123456789"
    assert watching.output_reader(job, "report")(7, 100) == b"789"
    watching.remove(job)
    with pytest.raises(NotFound):
        running.get(job)


def test_a_queued_job_waits_without_a_replica_for_it_and_can_be_cancelled(start: Start) -> None:
    idle = start({})
    job = idle.add("short", {})
    shown = idle.get(job)
    assert (shown["state"], shown["progress"]["now"]) == ("queued", "queued")
    idle.remove(job)
    assert idle.get(job)["state"] == "cancelled"


@pytest.mark.parametrize(("kind", "times"), [("endless", 1), ("deaf", 2)])
def test_a_job_is_cancelled_from_another_replica(start: Start, kind: str, times: int) -> None:
    other = start({})
    start()
    job = other.add(kind, {})
    process = int(until(other, job, is_running)["progress"]["now"])
    for _ in range(times):
        other.remove(job)
    assert end_of(other, job)["state"] == "cancelled"
    assert has_ended(process)


def test_the_limit_counts_the_jobs_of_all_replicas(start: Start) -> None:
    first, second = start({}, limit=2), start({}, limit=2)
    job = first.add("short", {})
    second.add("short", {})
    for replica in (first, second):
        with pytest.raises(TooMany, match="2 jobs are queued or running, which is the limit"):
            replica.add("short", {})
    second.remove(job)
    first.add("short", {})


def test_a_job_of_a_killed_replica_is_taken_over(start: Start, state: SharedState) -> None:
    killed, other = start(), start({})
    job = other.add("endless", {})
    process = int(until(other, job, is_running)["progress"]["now"])
    kill(killed)
    again = start()
    shown = until(
        other, job, lambda now: is_running(now) and now["progress"]["now"] != str(process)
    )
    assert state.read(select(jobs.c.starts).where(jobs.c.id == job))[0][0] == 2
    again.remove(job)
    assert end_of(other, shown["id"])["state"] == "cancelled"


def test_a_job_during_which_replicas_are_killed_fails(start: Start, state: SharedState) -> None:
    idle = start({})
    job = idle.add("inside", {})
    for _ in range(MAX_STARTS):
        replica = start()
        until(replica, job, lambda now: is_running(now) and job in replica._open)  # noqa: B023
        kill(replica)
    start()
    assert end_of(idle, job)["error"] == "the service was killed 3 times while it ran"
    assert not state.read(select(job_claims.c.job))


def test_a_replica_that_stops_leaves_its_job_to_another_at_once(
    start: Start, state: SharedState
) -> None:
    stopping = start()
    job = stopping.add("inside", {})
    until(stopping, job, is_running)
    assert stopping.close(30)
    assert state.read(select(jobs.c.state, jobs.c.starts)) == [("queued", 0)]
    other = start()  # The claim would otherwise count for half a minute.
    until(other, job, is_running)


def test_a_replica_whose_job_was_taken_stops_and_records_nothing(
    start: Start, state: SharedState
) -> None:
    def finish(task: Task, progress: Progress) -> Outcome:
        progress(1, 2, "")
        assert go_on.wait(30)
        return Outcome({"stale": True})

    go_on = Event()
    stalled = start({"finish": Kind(finish, inside=True)})
    job = stalled.add("finish", {})
    until(stalled, job, is_running)
    with state.writing() as execute:  # As another one does after the claim has become stale.
        execute(update(job_claims).values(owner="another", progress=json.dumps({"now": "mine"})))
    until_left(stalled, job)
    go_on.set()
    stalled.close(30)
    shown = start({}).get(job)
    assert (shown["state"], shown["result"]) == ("running", None)
    assert shown["progress"] == {"now": "mine"}


class SlowState(SharedState):
    """A state that calls `meanwhile` between the first two statements of its next transaction."""

    meanwhile: Callable[[], object] | None = None

    @contextmanager
    def writing(self, alone: str = "") -> Iterator[Execute]:
        with super().writing(alone) as execute:

            def execute_slowly(statement: Executable) -> Any:
                done = execute(statement)
                meanwhile, self.meanwhile = self.meanwhile, None
                if meanwhile is not None:
                    meanwhile()
                return done

            yield execute_slowly


def wait_for_a_lock(state: SharedState) -> None:
    """Wait until a statement waits for the lock of another transaction."""
    deadline = time.monotonic() + 30
    waiting = text("SELECT 1 FROM pg_locks WHERE NOT granted")
    while not state.read(waiting):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("other", ["cancel", "take"])
def test_the_end_of_a_job_does_not_block_a_replica_that_cancels_or_takes_it(
    other: str, state: SharedState
) -> None:
    slow = SlowState(state.engine)
    first, second = Claims(state, 30), Claims(slow, 0 if other == "take" else 30)
    JobRecord(state).add("a", "short", {}, None)
    assert first.take(["short"], MAX_STARTS)
    record = JobRecord(state, first.owner)
    with ThreadPoolExecutor(1) as pool:
        ends = []

        def end() -> None:
            ends.append(pool.submit(record.end, "a", "done"))
            wait_for_a_lock(state)

        slow.meanwhile = end
        if other == "cancel":
            assert second.cancel("a")
            assert ends[0].result(30) is None
        else:
            assert second.take(["short"], MAX_STARTS)
            with pytest.raises(NotOurs):
                ends[0].result(30)
    found = state.read(select(jobs.c.state))[0][0]
    assert found == ("done" if other == "cancel" else "queued")


class FailingState(SharedState):
    """A state whose database can be reached only while `is_up`."""

    is_up = True

    @contextmanager
    def writing(self, alone: str = "") -> Iterator[Execute]:
        if not self.is_up:
            raise Unavailable("the database cannot be reached")
        with super().writing(alone) as execute:
            yield execute


def test_the_end_of_a_job_is_written_when_the_database_is_back(
    state: SharedState, start: Start
) -> None:
    def finish(task: Task, progress: Progress) -> Outcome:
        progress(1, 2, "")
        assert go_on.wait(30)
        return Outcome({"kept": True}, b"output")

    go_on, failing = Event(), FailingState(state.engine)
    replica = start({"finish": Kind(finish, inside=True)}, state=failing)
    job = replica.add("finish", {})
    until(replica, job, is_running)
    failing.is_up = False
    go_on.set()
    until_left(replica, job)
    assert replica.get(job)["state"] == "running"
    failing.is_up = True
    shown = end_of(replica, job)
    assert (shown["state"], shown["result"]) == ("done", {"kept": True})
    assert replica.output(job, "finish") == b"output"


def test_a_job_waits_for_a_server_that_does_not_answer(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def work(task: Task, progress: Progress) -> Outcome:
        tries.append(1)
        if len(tries) < 3:
            raise Unavailable("Milvus does not answer")
        return Outcome({"tries": len(tries)})

    monkeypatch.setattr(queue, "RETRY_SECONDS", (0.01,) * 5)
    replica = start({"work": Kind(work, inside=True)})
    assert end_of(replica, replica.add("work", {}))["result"] == {"tries": 3}
