"""Jobs in the record."""

from __future__ import annotations

import json
import sqlite3
import time
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

Shown = dict[str, Any]


class JobRecord:
    """The table of jobs, one call a statement. Times are seconds since 1970."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as connection:
            connection.execute(_SCHEMA)
            _fold_in_benchmarks(connection)

    def add(self, job: str, kind: str, request: dict[str, Any], material: bytes | None) -> None:
        """A job that is to be done."""
        self._write(
            "INSERT INTO jobs (id, kind, state, request, material, created) "
            "VALUES (?, ?, 'queued', ?, ?, ?)",
            (job, kind, json.dumps(request), material, time.time()),
        )

    def start(self, job: str) -> None:
        """It runs now."""
        self._write(
            "UPDATE jobs SET state = 'running', starts = starts + 1, started = ? WHERE id = ?",
            (time.time(), job),
        )

    def put_back(self, job: str) -> None:
        """It was stopped in good order, which does not count as a start."""
        self._write(
            "UPDATE jobs SET state = 'queued', starts = starts - 1, started = NULL WHERE id = ?",
            (job,),
        )

    def end(
        self,
        job: str,
        state: str,
        result: dict[str, Any] | None,
        output: bytes | None,
        error: str | None,
    ) -> None:
        """It has ended; what it worked on is not kept."""
        self._write(
            "UPDATE jobs SET state = ?, ended = ?, material = NULL, result = ?, output = ?, "
            "error = ? WHERE id = ?",
            (state, time.time(), json.dumps(result) if result else None, output, error, job),
        )

    def take_up(self, max_starts: int) -> list[tuple[str, str, dict[str, Any]]]:
        """Id, kind and request of what is left to do, the oldest first, all queued again.

        What was started `max_starts` times is failed instead.
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
        """Forget it."""
        self._write("DELETE FROM jobs WHERE id = ?", (job,))

    def get(self, job: str, kind: str | None) -> Shown:
        """All but what it works on and gives; NotFound where there is none of that kind."""
        rows = self._database.read(
            "SELECT id, kind, state, request, result, error, created, started, ended FROM jobs "
            "WHERE id = ? AND (kind = ? OR ? IS NULL)",
            (job, kind, kind),
        )
        if not rows:
            raise NotFound(f"there is no {kind or 'job'} {job!r:.50}")
        return _shown(rows[0])

    def newest(self, kind: str | None, limit: int) -> list[Shown]:
        """The newest first, without results."""
        rows = self._database.read(
            "SELECT id, kind, state, request, NULL, error, created, started, ended FROM jobs "
            "WHERE kind = ? OR ? IS NULL ORDER BY rowid DESC LIMIT ?",
            (kind, kind, limit),
        )
        return [_shown(row) for row in rows]

    def counts(self) -> list[tuple[Any, ...]]:
        """Kind, state and how many there are."""
        return self._database.read("SELECT kind, state, COUNT(*) FROM jobs GROUP BY kind, state")

    def material(self, job: str) -> bytes | None:
        """What it works on."""
        rows = self._database.read("SELECT material FROM jobs WHERE id = ?", (job,))
        return rows[0][0] if rows else None

    def output(self, job: str) -> bytes:
        """What it gave."""
        rows = self._database.read("SELECT output FROM jobs WHERE id = ?", (job,))
        return (rows[0][0] if rows else None) or b""

    def _write(self, sql: str, values: tuple[Any, ...]) -> None:
        with self._database.transaction() as connection:
            connection.execute(sql, values)


def _shown(row: tuple[Any, ...]) -> Shown:
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
    }


def _fold_in_benchmarks(connection: sqlite3.Connection) -> None:
    """Benchmarks had a table of their own in version 0.1.0."""
    old = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'benchmarks'"
    if not connection.execute(old).fetchone():
        return
    connection.execute(
        "INSERT INTO jobs (id, kind, state, request, created, result, error, output) "
        "SELECT id, 'benchmark', iif(state = 'done', 'done', 'failed'), request, 0, result, "
        "iif(state = 'done', NULL, coalesce(error, 'the service stopped before it was done')), "
        "CAST(report AS BLOB) FROM benchmarks ORDER BY rowid"
    )
    connection.execute("DROP TABLE benchmarks")
