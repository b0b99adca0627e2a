"""The table of jobs in the database."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import (
    Column,
    ColumnElement,
    Executable,
    Select,
    String,
    Update,
    cast,
    func,
    insert,
    literal,
    null,
    select,
    update,
)
from sqlalchemy import delete as delete_from

from app.database.state import State, whole
from app.database.tables import job_claims as claims
from app.database.tables import jobs
from app.errors import TooMany
from index import NotFound, Unavailable

IS_OPEN: ColumnElement[bool] = jobs.c.state.in_(["queued", "running"])
_SHOWN = (jobs.c.id, jobs.c.kind, jobs.c.state, jobs.c.request)
_AND_WHEN = (jobs.c.error, jobs.c.created, jobs.c.started, jobs.c.ended)

log = structlog.stdlib.get_logger("bitcell")

JobFields = dict[str, Any]
"""What is shown of a job: see `app.http.schemas.JobOut`."""


class NotOurs(Exception):
    """Another replica has taken the job: what this one knows of it no longer counts."""


class JobRecord:
    """The table of jobs. Times are in seconds since 1970.

    Every method is one transaction. The end of a job that could not be written is kept in memory:
    see `keep_end`. Methods that write must not run at the same time in several threads.

    Parameters
    ----------
    state : State
    owner : str, optional
        By which this replica claims jobs in a shared database; see `app.jobs.shared.claims`.
        Without a claim, `start`, `put_back`, `end` and `write_kept_ends` raise NotOurs.
    """

    def __init__(self, state: State, owner: str | None = None) -> None:
        self._state, self._owner = state, owner
        self._unwritten: dict[str, JobFields] = {}
        self._delayed: dict[str, dict[str, Any]] = {}

    def add(
        self,
        job: str,
        kind: str,
        request: dict[str, Any],
        material: bytes | None,
        limit: int | None = None,
    ) -> None:
        """Add a queued job; raise TooMany if `limit` jobs are queued or running."""
        row = {"id": job, "kind": kind, "state": "queued", "request": json.dumps(request)}
        n_open = select(func.count()).where(IS_OPEN, jobs.c.id.not_in([*self._unwritten]))
        with self._state.writing("jobs") as execute:
            if limit is not None and execute(n_open).fetchall()[0][0] >= limit:
                raise TooMany(
                    f"{limit} jobs are queued or running, which is the limit (BITCELL_MAX_JOBS)"
                )
            execute(insert(jobs).values(**row, material=material, created=time.time()))

    def open_requests(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Return id and request of all jobs of a kind that have not ended, oldest first."""
        rows = self._state.read(
            select(jobs.c.id, jobs.c.request)
            .where(IS_OPEN, jobs.c.kind == kind, jobs.c.id.not_in([*self._unwritten]))
            .order_by(jobs.c.rowid)
        )
        return [(job, json.loads(request)) for job, request in rows]

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
        """Record how a job ended, and delete its material.

        If the database cannot be reached, the end is kept until `write_kept_ends` can write it.
        """
        end = _end(state, time.time(), error, result, output)
        try:
            self._change(job, **end)
        except Unavailable:
            self._delayed[job] = end

    def keep_end(self, job: str, state: str, error: str | None) -> None:
        """Keep in memory how a job ended, because it could not be written.

        From now on the job is shown as ended. `write_kept_ends` writes the end to the table.
        If the service stops before that, the table still says that the job runs, and the next start
        runs it again.
        """
        self._unwritten[job] = {"state": state, "ended": time.time(), "error": error}

    def write_kept_ends(self) -> None:
        """Write the ends that are kept in memory; raise what the database raises."""
        for job, end in list(self._delayed.items()):
            try:
                self._change(job, **end)
            except NotOurs:
                log.warning("another replica has taken the job", job=job)
            del self._delayed[job]
        for job, end in list(self._unwritten.items()):
            try:
                self._change(job, **_end(**end))
            except NotOurs:
                log.warning("another replica has taken the job", job=job)
            del self._unwritten[job]

    def requeue(self, max_starts: int) -> list[tuple[str, str, dict[str, Any]]]:
        """Queue all jobs that have not ended; return id, kind and request of each, oldest first.

        Jobs that were started `max_starts` times fail instead.
        """
        queued = {"state": "queued", "started": None}
        with self._state.writing() as execute:
            execute(failed_of_starts(jobs.c.starts >= max_starts))
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
        return whole(self._state, jobs.c.material, jobs.c.id == job)

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
        return whole(self._state, jobs.c.output, jobs.c.id == job) or b""

    def _change(self, job: str, **values: Any) -> None:
        this = update(jobs).where(jobs.c.id == job)
        if self._owner is None:
            self._write(this.values(**values))
            return
        mine = (claims.c.job == job, claims.c.owner == self._owner)
        with self._state.writing() as execute:
            # Until the end of the transaction, no other replica can take or cancel the job. All
            # lock a job before its claim, so that none of them waits for another in a circle.
            execute(select(jobs.c.id).where(jobs.c.id == job).with_for_update())
            if not execute(select(claims.c.job).where(*mine)).fetchall():
                raise NotOurs
            execute(this.values(**values))
            if values["state"] not in ("queued", "running"):
                execute(delete_from(claims).where(*mine))

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


def failed_of_starts(chosen: ColumnElement[bool]) -> Update:
    """Return what lets open jobs fail because the service was killed while they ran."""
    killed = literal("the service was killed ") + cast(jobs.c.starts, String)
    ended = {"state": "failed", "ended": time.time(), "material": None}
    return update(jobs).where(IS_OPEN, chosen).values(**ended, error=killed + " times while it ran")


def _end(
    state: str,
    ended: float,
    error: str | None,
    result: dict[str, Any] | None = None,
    output: bytes | None = None,
) -> dict[str, Any]:
    """Return the columns of a job that has ended."""
    return {
        "state": state,
        "ended": ended,
        "material": None,
        "result": json.dumps(result) if result else None,
        "output": output,
        "error": None if error is None else _storable(error),
    }


def _of_kind(chosen: Select[Any], kind: str | None) -> Select[Any]:
    return chosen if kind is None else chosen.where(jobs.c.kind == kind)


def _storable(text: str) -> str:
    """Return a text without what PostgreSQL or UTF-8 cannot hold."""
    return text.encode(errors="replace").decode().replace("\0", "�")
