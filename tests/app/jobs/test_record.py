"""The table of jobs."""

from __future__ import annotations

from app.database.embedded import EmbeddedState
from app.jobs.record import JobRecord
from index import Database


def test_accepting_a_job_does_not_read_those_that_have_ended(database: Database) -> None:
    record, executed = JobRecord(EmbeddedState(database)), list[str]()
    for connection in database._opened:
        connection.set_trace_callback(executed.append)
    record.add("a", "training", {"name": "x"}, None, limit=16)
    assert record.open_requests("training") == [("a", {"name": "x"})]
    record.requeue(3)
    record.counts()
    for connection in database._opened:
        connection.set_trace_callback(None)
    plans = [
        row[3]
        for statement in executed
        if "FROM jobs" in statement or "UPDATE jobs" in statement
        for row in database.read(f"EXPLAIN QUERY PLAN {statement}")
    ]
    assert len(plans) >= 6
    assert not [plan for plan in plans if plan == "SCAN jobs"], plans
