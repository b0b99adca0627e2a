"""The server-sent events of a job."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import closing
from threading import Timer
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.http import job_events
from app.http.job_events import JobEvents
from app.jobs.kind import Kind
from app.jobs.queue import Jobs
from app.main import create_app
from app.service.keys import READ, WRITE, Keys
from app.service.settings import Settings
from tests.app.asgi_client import TestClient
from tests.app.jobs import work_functions
from tests.app.jobs.waiting import end_of, until
from tests.app.problems import assert_problem


def jobs_of(client: TestClient) -> Jobs:
    jobs: Jobs = client.app.state.service.jobs  # type: ignore[attr-defined]
    return jobs


@pytest.fixture
def endless(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> str:
    """A job that runs until it is cancelled."""
    jobs = jobs_of(client)
    monkeypatch.setitem(jobs._kinds, "endless", Kind(work_functions.never_end))
    job = jobs.add("endless", {})
    until(jobs, job, lambda shown: shown["state"] == "running")
    return job


def follow(client: TestClient, job: str) -> list[str]:
    """The lines of the stream that are not empty."""
    with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        return [line for line in answer.iter_lines() if line]


def test_a_job_that_ends_right_after_the_first_read_is_not_missed(
    client: TestClient, endless: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, get = jobs_of(client), Jobs.get
    cancelled = False

    def cancel_after_read(self: Jobs, job: str, kind: str | None = None) -> dict[str, Any]:
        nonlocal cancelled
        shown = get(self, job, kind)
        if not cancelled:
            cancelled = True
            jobs.remove(job)
            end_of(jobs, job)
        return shown

    monkeypatch.setattr(Jobs, "get", cancel_after_read)
    start = time.monotonic()
    lines = follow(client, endless)
    assert time.monotonic() - start < 10
    assert all(line.startswith("data: ") for line in lines)
    assert json.loads(lines[-1].removeprefix("data: "))["state"] == "cancelled"


def test_a_stream_ends_when_its_job_is_removed(
    client: TestClient, endless: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, get = jobs_of(client), Jobs.get
    reads = 0

    def remove_after_second_read(self: Jobs, job: str, kind: str | None = None) -> dict[str, Any]:
        nonlocal reads
        shown = get(self, job, kind)
        reads += 1
        if reads == 2:
            jobs.remove(job)
            end_of(jobs, job)
            jobs.remove(job)
        return shown

    monkeypatch.setattr(Jobs, "get", remove_after_second_read)
    with capture_logs() as logs:
        lines = follow(client, endless)
    assert json.loads(lines[-1].removeprefix("data: "))["state"] == "running"
    assert "request failed" not in [line["event"] for line in logs]


def test_the_events_of_an_unknown_job_are_not_found(client: TestClient) -> None:
    answer = client.get("/v1/jobs/none/events")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def always() -> bool:
    return True


class OneJob:
    """Jobs as `JobEvents` sees them: one that changes when a test says so."""

    def __init__(self) -> None:
        self.stopping = False
        self.reads = 0
        self.done = 0
        self.change: Callable[[], object] = lambda: None

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        self.change = listener
        return lambda: None

    def get(self, job: str) -> dict[str, Any]:
        self.reads += 1
        progress = {"done": self.done, "of": 9, "now": "step", "seconds_left": None}
        fields = dict.fromkeys(("result", "error", "started", "ended"))
        fields |= {"id": job, "kind": "training", "state": "running", "request": {}, "created": 0.0}
        return fields | {"progress": progress}


def test_a_change_is_read_once_for_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_events, "PAUSE_SECONDS", 0.05)
    jobs, n = OneJob(), 50
    received: list[int] = []

    async def follow(events: JobEvents) -> None:
        async for event in events.follow("j", always):
            done = json.loads(event.removeprefix(b"data: "))["progress"]["done"]
            received.append(done)
            if done == 5:
                return

    async def test() -> None:
        with closing(JobEvents(jobs)) as events:  # type: ignore[arg-type]
            streams = [asyncio.create_task(follow(events)) for _ in range(n)]
            while len(received) < n:
                await asyncio.sleep(0)
            assert jobs.reads == 1
            # The first change is sent at once, the next four together.
            for done in range(1, 6):
                jobs.done = done
                jobs.change()
                while done == 1 and len(received) < 2 * n:
                    await asyncio.sleep(0)
            await asyncio.gather(*streams)

    asyncio.run(test())
    assert received == [0] * n + [1] * n + [5] * n
    assert jobs.reads == 3


def test_a_read_that_failed_is_tried_again_by_the_next_stream() -> None:
    jobs = OneJob()
    get, failures = jobs.get, [RuntimeError("can't start new thread")]

    def fail_once(job: str) -> dict[str, Any]:
        if failures:
            raise failures.pop()
        return get(job)

    async def test() -> bytes:
        with closing(JobEvents(jobs)) as events:  # type: ignore[arg-type]
            with pytest.raises(RuntimeError, match="new thread"):
                await anext(events.follow("j", always))
            return await anext(events.follow("j", always))

    jobs.get = fail_once  # type: ignore[method-assign]
    assert asyncio.run(test()).startswith(b"data: ")


def test_an_idle_stream_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_events, "CHECK_SECONDS", 0.001)
    monkeypatch.setattr(job_events, "PING_SECONDS", 0.002)

    async def test() -> list[bytes]:
        with closing(JobEvents(OneJob())) as events:  # type: ignore[arg-type]
            stream = events.follow("j", always)
            return [await anext(stream) for _ in range(3)]

    first, *pings = asyncio.run(test())
    assert first.startswith(b"data: ")
    assert pings == [b": ping\n\n"] * 2


def test_a_stream_ends_when_its_key_is_revoked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_events, "CHECK_SECONDS", 0.01)
    app = create_app(settings.model_copy(update={"require_keys": True}))
    with TestClient(app) as client:
        jobs, get = jobs_of(client), Jobs.get
        keys: Keys = app.state.service.keys
        keys.create("another", WRITE)
        key, secret = keys.create("reader", READ)
        client.headers["Authorization"] = f"Bearer {secret}"
        monkeypatch.setitem(jobs._kinds, "endless", Kind(work_functions.never_end))
        job = jobs.add("endless", {})
        until(jobs, job, lambda shown: shown["state"] == "running")

        def revoke_after_read(self: Jobs, job: str, kind: str | None = None) -> dict[str, Any]:
            shown = get(self, job, kind)
            if key in keys.list():
                keys.revoke(key.id)
            return shown

        monkeypatch.setattr(Jobs, "get", revoke_after_read)
        # Without the check the stream would last as long as the job.
        end_of_test = Timer(10, jobs.remove, [job])
        end_of_test.start()
        lines = follow(client, job)
        end_of_test.cancel()
        assert all('"cancelled"' not in line for line in lines)
        assert client.get("/v1/jobs").status_code == 401


def test_streams_are_limited(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(create_app(settings.model_copy(update={"max_streams": 1}))) as client:
        jobs, get = jobs_of(client), Jobs.get
        monkeypatch.setitem(jobs._kinds, "endless", Kind(work_functions.never_end))
        job = jobs.add("endless", {})
        answers: list[Any] = []

        def follow_twice(self: Jobs, job: str, kind: str | None = None) -> dict[str, Any]:
            if not answers:
                answers.append(client.get(f"/v1/jobs/{job}/events"))
                answers.append(client.get("/v1/encoders"))
                jobs.remove(job)
            return get(self, job, kind)

        monkeypatch.setattr(Jobs, "get", follow_twice)
        assert follow(client, job)
        monkeypatch.undo()
        assert_problem(answers[0], 503, "BITCELL_MAX_STREAMS")
        assert answers[0].headers["retry-after"] == "1"
        assert answers[1].status_code == 200
        assert follow(client, job)
