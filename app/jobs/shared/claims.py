"""Which replica works on which job."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection
from typing import Any, NamedTuple

import structlog
from sqlalchemy import ColumnElement, Update, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from app.database.state import Execute, State
from app.database.tables import job_claims as claims
from app.database.tables import jobs
from app.jobs.record import IS_OPEN, JobFields, failed_of_starts
from index import NotFound

# By the clock of the database, so that those of the replicas may differ.
_NOW = func.extract("epoch", func.clock_timestamp())

log = structlog.stdlib.get_logger("bitcell")


class Taken(NamedTuple):
    """A job that this replica is to run."""

    id: str
    kind: str
    request: dict[str, Any]


class Claims:
    """The claims of one replica, in the table `job_claims`. Thread-safe.

    A replica claims a job before it works on it, and confirms that every second or so. It has lost
    a job whose claim it did not confirm for `stale` seconds, if another one has taken it since.

    Parameters
    ----------
    state : State
        A shared one.
    stale : float
        Seconds after which a claim no longer counts.
    """

    def __init__(self, state: State, stale: float) -> None:
        self._state = state
        self.owner = uuid.uuid4().hex
        self._is_stale: ColumnElement[bool] = claims.c.heartbeat < _NOW - stale

    def take(self, kinds: Collection[str], max_starts: int) -> Taken | None:
        """Claim the oldest job of these kinds that nobody works on; None if there is none.

        One that a replica left when it was killed fails if it was started `max_starts` times.
        """
        while True:
            with self._state.writing() as execute:
                row = self._oldest(execute, kinds)
                # Somebody who was faster has the job if this changes nothing.
                if row is None or not execute(self._claim(row.id)).rowcount:
                    return None
                if row.starts < max_starts:
                    if row.state == "running":
                        log.info("job resumed", job=row.id, kind=row.kind)
                        again = {"state": "queued", "started": None}
                        execute(update(jobs).where(jobs.c.id == row.id).values(**again))
                    return Taken(row.id, row.kind, json.loads(row.request))
                execute(failed_of_starts(jobs.c.id == row.id))
                execute(delete(claims).where(claims.c.job == row.id))

    def confirm(self, progress: dict[str, dict[str, Any]]) -> dict[str, int]:
        """Confirm claims with the progress of each job; return how often each was cancelled.

        A job that another replica has taken is missing in the answer.
        """
        found = {}
        if progress:
            with self._state.writing() as execute:
                for job, now in progress.items():
                    rows = execute(
                        self._mine(job)
                        .values(heartbeat=_NOW, progress=json.dumps(now))
                        .returning(claims.c.cancels)
                    ).fetchall()
                    if rows:
                        found[job] = rows[0][0]
        return found

    def release(self, job: str | None = None) -> None:
        """Give up a job, or all, so that another replica can take it at once."""
        mine = delete(claims).where(claims.c.owner == self.owner)
        with self._state.writing() as execute:
            execute(mine if job is None else mine.where(claims.c.job == job))

    def cancel(self, job: str) -> bool:
        """Cancel a job that another replica runs or that is queued; False if it has ended.

        Raise NotFound if there is none.
        """
        this = jobs.c.id == job
        with self._state.writing() as execute:
            rows = execute(select(jobs.c.state).where(this).with_for_update()).fetchall()
            if not rows:
                raise NotFound(f"there is no job {job!r:.50}")
            if rows[0][0] not in ("queued", "running"):
                return False
            asked = update(claims).where(claims.c.job == job, ~self._is_stale)
            if not execute(asked.values(cancels=claims.c.cancels + 1)).rowcount:
                execute(delete(claims).where(claims.c.job == job))
                ended = {"state": "cancelled", "ended": time.time(), "material": None}
                execute(update(jobs).where(this).values(**ended))
            return True

    def progress(self) -> dict[str, JobFields]:
        """Return the progress of all jobs that replicas work on."""
        rows = self._state.read(
            select(claims.c.job, claims.c.progress).where(claims.c.progress.is_not(None))
        )
        return {job: json.loads(text) for job, text in rows}

    def _oldest(self, execute: Execute, kinds: Collection[str]) -> Any:
        rows = execute(
            select(jobs.c.id, jobs.c.kind, jobs.c.request, jobs.c.state, jobs.c.starts)
            .outerjoin(claims, claims.c.job == jobs.c.id)
            .where(IS_OPEN, jobs.c.kind.in_(kinds), or_(claims.c.job.is_(None), self._is_stale))
            .order_by(jobs.c.rowid)
            .limit(1)
            .with_for_update(of=jobs, skip_locked=True)
        ).fetchall()
        return rows[0] if rows else None

    def _claim(self, job: str) -> Any:
        mine = {"owner": self.owner, "heartbeat": _NOW, "progress": None, "cancels": 0}
        return (
            insert(claims)
            .values(job=job, **mine)
            .on_conflict_do_update(index_elements=["job"], set_=mine, where=self._is_stale)
        )

    def _mine(self, job: str) -> Update:
        return update(claims).where(claims.c.job == job, claims.c.owner == self.owner)
