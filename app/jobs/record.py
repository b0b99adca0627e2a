"""The table of jobs in the database."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Executable,
    Select,
    String,
    cast,
    func,
    insert,
    literal,
    null,
    select,
    update,
)
from sqlalchemy import delete as delete_from

from app.database.state import State
from app.database.tables import jobs
from index import NotFound

_IS_OPEN = jobs.c.state.in_(["queued", "running"])
_SHOWN = (jobs.c.id, jobs.c.kind, jobs.c.state, jobs.c.request)
_AND_WHEN = (jobs.c.error, jobs.c.created, jobs.c.started, jobs.c.ended)

JobFields = dict[str, Any]
"""What is shown of a job: see `app.http.schemas.JobOut`."""


class JobRecord:
    """The table of jobs. Times are in seconds since 1970.

    Every method is one transaction. The end of a job that could not be written is kept in memory:
    see `keep_end`. Methods that write must not run at the same time in several threads.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._unwritten: dict[str, JobFields] = {}

    def add(self, job: str, kind: str, request: dict[str, Any], material: bytes | None) -> None:
        """Add a queued job."""
        row = {"id": job, "kind": kind, "state": "queued", "request": json.dumps(request)}
        self._write(insert(jobs).values(**row, material=material, created=time.time()))

    def start(self, job: str) -> None:
        """Record that a job runs from now on."""
        self._change(job, state="running", starts=jobs.c.starts + 1, started=time.time())

    def put_back(self, job: str) -> None:
        """Queue a running job again. The service stopped it normally: this start is not counted."""
        self._change(job, state="queued", starts=jobs.c.starts - 1, started=None)

    def end(
        self,
        job: str,
        state: str,
        result: dict[str, Any] | None = None,
        output: bytes | None = None,
        error: str | None = None,
    ) -> None:
        """Record how a job ended, and delete its material."""
        self._write_end(job, state, time.time(), result, output, error)

    def keep_end(self, job: str, state: str, error: str | None) -> None:
        """Keep in memory how a job ended, because it could not be written.

        From now on the job is shown as ended. `write_kept_ends` writes the end to the table.
        If the service stops before that, the table still says that the job runs, and the next start
        runs it again.
        """
        self._unwritten[job] = {"state": state, "ended": time.time(), "error": error}

    def write_kept_ends(self) -> None:
        """Write the ends that are kept in memory; raise what the database raises."""
        for job, end in list(self._unwritten.items()):
            self._write_end(job, end["state"], end["ended"], None, None, end["error"])
            del self._unwritten[job]

    def requeue(self, max_starts: int) -> list[tuple[str, str, dict[str, Any]]]:
        """Queue all jobs that have not ended; return id, kind and request of each, oldest first.

        Jobs that were started `max_starts` times fail instead.
        """
        killed = literal("the service was killed ") + cast(jobs.c.starts, String)
        failed = {"state": "failed", "ended": time.time(), "material": None}
        queued = {"state": "queued", "started": None}
        with self._state.writing() as execute:
            execute(
                update(jobs)
                .where(_IS_OPEN, jobs.c.starts >= max_starts)
                .values(**failed, error=killed + " times while it ran")
            )
            execute(update(jobs).where(jobs.c.state == "running").values(**queued))
        rows = self._state.read(
            select(jobs.c.id, jobs.c.kind, jobs.c.request)
            .where(jobs.c.state == "queued")
            .order_by(jobs.c.rowid)
        )
        return [(job, kind, json.loads(request)) for job, kind, request in rows]

    def drop(self, job: str) -> None:
        """Delete a job."""
        self._write(delete_from(jobs).where(jobs.c.id == job))
        self._unwritten.pop(job, None)

    def has(self, job: str) -> bool:
        """Return whether there is a job with this id."""
        return bool(self._column(job, jobs.c.id))

    def get(self, job: str, kind: str | None) -> JobFields:
        """Return a job without its material and output.

        Raise NotFound if there is none with this id, or if it is of another kind than `kind`.
        """
        chosen = select(*_SHOWN, jobs.c.result, *_AND_WHEN).where(jobs.c.id == job)
        rows = self._state.read(_of_kind(chosen, kind))
        if not rows:
            raise NotFound(f"there is no {kind or 'job'} {job!r:.50}")
        return self._fields(rows[0])

    def newest(self, kind: str | None, limit: int) -> list[JobFields]:
        """Return jobs without their results, newest first."""
        chosen = select(*_SHOWN, null(), *_AND_WHEN).order_by(jobs.c.rowid.desc()).limit(limit)
        rows = self._state.read(_of_kind(chosen, kind))
        return [self._fields(row) for row in rows]

    def counts(self) -> list[tuple[str, str, int]]:
        """Return the number of jobs by kind and state."""
        found = Counter[tuple[str, str]]()
        of_all = select(jobs.c.kind, jobs.c.state, func.count())
        for kind, state, count in self._state.read(of_all.group_by(jobs.c.kind, jobs.c.state)):
            found[kind, state] = count
        for job, end in list(self._unwritten.items()):
            rows = self._column(job, jobs.c.kind, jobs.c.state)
            for kind, state in rows:
                found[kind, state] -= 1
                found[kind, end["state"]] += 1
        return [(kind, state, count) for (kind, state), count in found.items() if count]

    def material(self, job: str) -> bytes | None:
        """Return the data that came with the request of a job."""
        rows = self._column(job, jobs.c.material)
        return rows[0][0] if rows else None

    def output_part(self, job: str, offset: int, size: int) -> bytes:
        """Return up to `size` of the bytes that a job produced, without reading all of them.

        Raise NotFound if there is no such job, or if it produced none.
        """
        part = self._state.part(jobs.c.output, jobs.c.id == job, offset, size)
        if part is None:
            raise NotFound(f"there is no output of a job {job!r:.50}")
        return part

    def output(self, job: str) -> bytes:
        """Return the bytes that a job produced."""
        rows = self._column(job, jobs.c.output)
        return (rows[0][0] if rows else None) or b""

    def _write_end(
        self,
        job: str,
        state: str,
        ended: float,
        result: dict[str, Any] | None,
        output: bytes | None,
        error: str | None,
    ) -> None:
        self._change(
            job,
            state=state,
            ended=ended,
            material=None,
            result=json.dumps(result) if result else None,
            output=output,
            error=None if error is None else _storable(error),
        )

    def _change(self, job: str, **values: Any) -> None:
        self._write(update(jobs).where(jobs.c.id == job).values(**values))

    def _write(self, statement: Executable) -> None:
        with self._state.writing() as execute:
            execute(statement)

    def _column(self, job: str, *columns: Column[Any]) -> Sequence[Any]:
        return self._state.read(select(*columns).where(jobs.c.id == job))

    def _fields(self, row: tuple[Any, ...]) -> JobFields:
        job, kind, state, request, result, error, created, started, ended = row
        return {
            "id": job,
            "kind": kind,
            "state": state,
            "request": json.loads(request),
            "result": json.loads(result) if result else None,
            "error": error,
            "created": created,
            "started": started,
            "ended": ended,
        } | self._unwritten.get(job, {})


def _of_kind(chosen: Select[Any], kind: str | None) -> Select[Any]:
    return chosen if kind is None else chosen.where(jobs.c.kind == kind)


def _storable(text: str) -> str:
    """Return a text without what PostgreSQL or UTF-8 cannot hold."""
    return text.encode(errors="replace").decode().replace("\0", "�")
