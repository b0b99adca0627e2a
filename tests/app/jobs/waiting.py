"""Waiting for jobs in tests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from threading import Event
from typing import Any

from app.jobs.queue import ENDED, Jobs
from tests.app.asgi_client import TestClient

LIMIT_SECONDS = 30


def until(jobs: Jobs, job: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until a job satisfies a condition, checked at every change, and return it."""
    shown: dict[str, Any] = {}

    def is_so() -> bool:
        nonlocal shown
        shown = jobs.get(job)
        return reached(shown)

    _until(jobs, is_so, lambda: shown)
    return shown


def end_of(jobs: Jobs, job: str) -> dict[str, Any]:
    """Wait until a job has ended and return it."""
    return until(jobs, job, lambda shown: shown["state"] in ENDED)


def until_left(jobs: Jobs, job: str) -> None:
    """Wait until a queue no longer works on a job."""
    _until(jobs, lambda: job not in jobs._open, lambda: jobs.get(job))


def _until(jobs: Jobs, reached: Callable[[], bool], say: Callable[[], object]) -> None:
    changed, deadline = Event(), time.monotonic() + LIMIT_SECONDS
    stop = jobs.listen(changed.set)
    try:
        while not reached():
            # Replicas that share jobs tell of a change at every beat.
            assert changed.wait(LIMIT_SECONDS), say()
            assert time.monotonic() < deadline, say()
            changed.clear()
    finally:
        stop()


def ended(client: TestClient, job: str) -> dict[str, Any]:
    """Follow the events of a job over HTTP until it has ended and return it."""
    with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.status_code == 200, answer.read()
        events = [line for line in answer.iter_lines() if line.startswith("data: ")]
    shown: dict[str, Any] = json.loads(events[-1].removeprefix("data: "))
    assert shown["state"] in ENDED
    return shown
