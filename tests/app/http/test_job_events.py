"""Server-sent events of a job."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from app.jobs.kind import Kind
from app.jobs.queue import Jobs
from tests.app.jobs import work_functions
from tests.app.jobs.waiting import end_of, until


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
