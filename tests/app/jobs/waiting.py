"""Waiting for jobs in tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Event
from typing import Any

from app.jobs.queue import ENDED, Jobs
from tests.app.asgi_client import TestClient


def until(jobs: Jobs, job: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until a job satisfies a condition, checked at every change, and return it."""
    changed = Event()
    stop = jobs.listen(changed.set)
    try:
        while not reached(shown := jobs.get(job)):
            assert changed.wait(30), shown
            changed.clear()
    finally:
        stop()
    return shown


def end_of(jobs: Jobs, job: str) -> dict[str, Any]:
    """Wait until a job has ended and return it."""
    return until(jobs, job, lambda shown: shown["state"] in ENDED)


def ended(client: TestClient, job: str) -> dict[str, Any]:
    """Follow the events of a job over HTTP until it has ended and return it."""
    with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.status_code == 200, answer.read()
        events = [line for line in answer.iter_lines() if line.startswith("data: ")]
    shown: dict[str, Any] = json.loads(events[-1].removeprefix("data: "))
    assert shown["state"] in ENDED
    return shown
