"""Fixtures of the tests of jobs: a queue with kinds of jobs for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.database.embedded import EmbeddedState
from app.jobs.kind import Kind, Outcome, Progress
from app.jobs.queue import Jobs
from index import Database
from tests.app.jobs import work_functions


def _write_file(request: dict[str, Any], folder: Path, progress: Progress) -> None:
    (folder / "prepared").write_bytes(b"ab")


def _fail_at_the_end(request: dict[str, Any], outcome: Outcome) -> Outcome:
    raise RuntimeError("the end went wrong")


KINDS = {
    "describe": Kind(work_functions.describe_process),
    "endless": Kind(work_functions.never_end),
    "short": Kind(work_functions.three_steps),
    "refuse": Kind(work_functions.refuse),
    "die": Kind(work_functions.die),
    "fail at the end": Kind(work_functions.three_steps, finish=_fail_at_the_end),
    "prepared": Kind(work_functions.read_prepared_file, prepare=_write_file),
    "interruptible": Kind(work_functions.return_on_interrupt, partial=True),
    "deaf": Kind(work_functions.ignore_interrupts, partial=True),
    "inside": Kind(work_functions.report_until_stopped, inside=True),
}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "bitcell.db")
    yield database
    database.close()


@pytest.fixture
def start(database: Database, tmp_path: Path) -> Iterator[Callable[..., Jobs]]:
    """Open the queue as a service does when it starts. The one before it must be closed."""
    opened: list[Jobs] = []

    def start_queue(**options: Any) -> Jobs:
        opened.append(Jobs(EmbeddedState(database), tmp_path, KINDS, **options))
        opened[-1].resume()
        return opened[-1]

    yield start_queue
    for jobs in opened:
        jobs.close(30)
