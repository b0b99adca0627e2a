"""Checks of problem documents."""

from __future__ import annotations

from typing import Any

MAX_BYTES = 4000


def assert_problem(answer: Any, status: int, message: str) -> None:
    """Check the status of a problem, its form, and that its detail contains a message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert message in problem["detail"]
    assert (answer.headers.get("www-authenticate") == "Bearer") == (status == 401)
    assert len(answer.content) < MAX_BYTES
