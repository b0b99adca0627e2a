"""Jobs whose end cannot be written to the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from app.jobs.queue import Jobs
from index import Database, NotFound
from tests.app.jobs.test_queue import is_running
from tests.app.jobs.waiting import end_of, until


@contextmanager
def ends_refused(database: Database) -> Iterator[None]:
    """Let SQLite refuse to write that a job has ended, as on a full disk."""
    with database.transaction() as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE OF ended ON jobs WHEN new.ended IS NOT NULL "
            "BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
    yield
    with database.transaction() as connection:
        connection.execute("DROP TRIGGER refuse")


def state_on_disk(database: Database, job: str) -> str:
    ((state,),) = database.read("SELECT state FROM jobs WHERE id = ?", (job,))
    return str(state)


def test_a_job_whose_end_cannot_be_written_fails_and_frees_its_place(
    start: Callable[..., Jobs], database: Database
) -> None:
    jobs = start(workers=1, limit=1)
    with ends_refused(database), capture_logs() as logs:
        first = jobs.add("short", {})
        shown = end_of(jobs, first)
        assert shown["state"] == "failed"
        assert shown["error"] == ("the job was done, but its result could not be written: no room")
        assert shown["ended"] >= shown["started"]
        assert jobs.newest()[0]["state"] == "failed"
        assert jobs.counts() == [("short", "failed", 1)]
        second = jobs.add("endless", {})
        until(jobs, second, is_running)
        jobs.remove(second)
        assert end_of(jobs, second)["state"] == "cancelled"
    assert Counter(line["event"] for line in logs)["end of job not written"] == 2
    assert {state_on_disk(database, job) for job in (first, second)} == {"running"}
    # The next job that ends takes the others with it.
    assert end_of(jobs, jobs.add("short", {}))["state"] == "done"
    assert state_on_disk(database, first) == "failed"
    assert state_on_disk(database, second) == "cancelled"
    jobs.remove(first)
    with pytest.raises(NotFound):
        jobs.get(first)


def test_an_end_kept_in_memory_is_written_when_the_service_stops(
    start: Callable[..., Jobs], database: Database
) -> None:
    jobs = start()
    with ends_refused(database):
        job = jobs.add("refuse", {})
        assert end_of(jobs, job)["error"] == "there is a reason"
    assert jobs.close(30)
    jobs = start()
    assert (jobs.get(job)["state"], jobs.get(job)["error"]) == ("failed", "there is a reason")


def test_a_queued_job_is_not_cancelled_if_that_cannot_be_written(
    start: Callable[..., Jobs], database: Database
) -> None:
    jobs = start(workers=1)
    until(jobs, jobs.add("endless", {}), is_running)
    queued = jobs.add("short", {})
    with ends_refused(database), pytest.raises(Exception, match="no room"):
        jobs.remove(queued)
    assert jobs.get(queued)["state"] == "queued"
    jobs.remove(queued)
    assert jobs.get(queued)["state"] == "cancelled"
