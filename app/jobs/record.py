"""The table of jobs in the database."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from typing import Any

from index import Database, NotFound

_SCHEMA = """CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    request TEXT NOT NULL,
    material BLOB,
    starts INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    result TEXT,
    error TEXT,
    output BLOB
) STRICT"""

JobFields = dict[str, Any]
"""What is shown of a job: see `app.http.schemas.JobOut`."""


class JobRecord:
    """The table of jobs. Times are in seconds since 1970.

    Every method is one transaction. The end of a job that could not be written is kept in memory:
    see `keep_end`. Methods that write must not run at the same time in several threads.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unwritten: dict[str, JobFields] = {}
        with database.transaction() as connection:
            connection.execute(_SCHEMA)
            _adopt_old_benchmarks(connection)

    def add(self, job: str, kind: str, request: dict[str, Any], material: bytes | None) -> None:
        """Add a queued job."""
        self._write(
            "INSERT INTO jobs (id, kind, state, request, material, created) "
            "VALUES (?, ?, 'queued', ?, ?, ?)",
            (job, kind, json.dumps(request), material, time.time()),
        )

    def start(self, job: str) -> None:
        """Record that a job runs from now on."""
        self._write(
            "UPDATE jobs SET state = 'running', starts = starts + 1, started = ? WHERE id = ?",
            (time.time(), job),
        )

    def put_back(self, job: str) -> None:
        """Queue a running job again. The service stopped it normally: this start is not counted."""
        self._write(
            "UPDATE jobs SET state = 'queued', starts = starts - 1, started = NULL WHERE id = ?",
            (job,),
        )

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
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE jobs SET state = 'failed', ended = ?, material = NULL, "
                "error = 'the service was killed ' || starts || ' times while it ran' "
                "WHERE state IN ('queued', 'running') AND starts >= ?",
                (time.time(), max_starts),
            )
            connection.execute(
                "UPDATE jobs SET state = 'queued', started = NULL WHERE state = 'running'"
            )
        rows = self._database.read(
            "SELECT id, kind, request FROM jobs WHERE state = 'queued' ORDER BY rowid"
        )
        return [(job, kind, json.loads(request)) for job, kind, request in rows]

    def drop(self, job: str) -> None:
        """Delete a job."""
        self._write("DELETE FROM jobs WHERE id = ?", (job,))
        self._unwritten.pop(job, None)

    def has(self, job: str) -> bool:
        """Return whether there is a job with this id."""
        return bool(self._database.read("SELECT 1 FROM jobs WHERE id = ?", (job,)))

    def get(self, job: str, kind: str | None) -> JobFields:
        """Return a job without its material and output.

        Raise NotFound if there is none with this id, or if it is of another kind than `kind`.
        """
        rows = self._database.read(
            "SELECT id, kind, state, request, result, error, created, started, ended FROM jobs "
            "WHERE id = ? AND (kind = ? OR ? IS NULL)",
            (job, kind, kind),
        )
        if not rows:
            raise NotFound(f"there is no {kind or 'job'} {job!r:.50}")
        return self._fields(rows[0])

    def newest(self, kind: str | None, limit: int) -> list[JobFields]:
        """Return jobs without their results, newest first."""
        rows = self._database.read(
            "SELECT id, kind, state, request, NULL, error, created, started, ended FROM jobs "
            "WHERE kind = ? OR ? IS NULL ORDER BY rowid DESC LIMIT ?",
            (kind, kind, limit),
        )
        return [self._fields(row) for row in rows]

    def counts(self) -> list[tuple[str, str, int]]:
        """Return the number of jobs by kind and state."""
        found = Counter[tuple[str, str]]()
        for kind, state, count in self._database.read(
            "SELECT kind, state, COUNT(*) FROM jobs GROUP BY kind, state"
        ):
            found[kind, state] = count
        for job, end in list(self._unwritten.items()):
            rows = self._database.read("SELECT kind, state FROM jobs WHERE id = ?", (job,))
            for kind, state in rows:
                found[kind, state] -= 1
                found[kind, end["state"]] += 1
        return [(kind, state, count) for (kind, state), count in found.items() if count]

    def material(self, job: str) -> bytes | None:
        """Return the data that came with the request of a job."""
        rows = self._database.read("SELECT material FROM jobs WHERE id = ?", (job,))
        return rows[0][0] if rows else None

    def output_part(self, job: str, offset: int, size: int) -> bytes:
        """Return up to `size` of the bytes that a job produced, without reading all of them.

        Raise NotFound if there is no such job, or if it produced none.
        """
        with self._database.reading() as connection:
            connection.execute("BEGIN")  # The job cannot go between the two reads.
            try:
                row = connection.execute(
                    "SELECT rowid FROM jobs WHERE id = ? AND output IS NOT NULL", (job,)
                ).fetchone()
                if row is None:
                    raise NotFound(f"there is no output of a job {job!r:.50}")
                with connection.blobopen("jobs", "output", row[0], readonly=True) as blob:
                    blob.seek(min(offset, len(blob)))
                    return blob.read(size)
            finally:
                connection.execute("ROLLBACK")

    def output(self, job: str) -> bytes:
        """Return the bytes that a job produced."""
        rows = self._database.read("SELECT output FROM jobs WHERE id = ?", (job,))
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
        self._write(
            "UPDATE jobs SET state = ?, ended = ?, material = NULL, result = ?, output = ?, "
            "error = ? WHERE id = ?",
            (state, ended, json.dumps(result) if result else None, output, error, job),
        )

    def _write(self, sql: str, values: tuple[Any, ...]) -> None:
        with self._database.transaction() as connection:
            connection.execute(sql, values)

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


def _adopt_old_benchmarks(connection: sqlite3.Connection) -> None:
    """Move benchmarks from the table that they had in version 0.1.0."""
    table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'benchmarks'"
    if not connection.execute(table).fetchone():
        return
    connection.execute(
        "INSERT INTO jobs (id, kind, state, request, created, result, error, output) "
        "SELECT id, 'benchmark', iif(state = 'done', 'done', 'failed'), request, 0, result, "
        "iif(state = 'done', NULL, coalesce(error, 'the service stopped before it was done')), "
        "CAST(report AS BLOB) FROM benchmarks ORDER BY rowid"
    )
    connection.execute("DROP TABLE benchmarks")
