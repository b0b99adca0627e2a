"""Waiting for jobs in tests."""

from __future__ import annotations

import json
from typing import Any

from fastapi.testclient import TestClient


def ended(client: TestClient, job: str) -> dict[str, Any]:
    """The job when it has ended: its events are followed until the last."""
    with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.status_code == 200, answer.read()
        events = [line for line in answer.iter_lines() if line.startswith("data: ")]
    shown: dict[str, Any] = json.loads(events[-1].removeprefix("data: "))
    assert shown["state"] in ("done", "failed", "cancelled")
    return shown
