"""Benchmarks that the service runs in the background, one at a time, each in its own process."""

from __future__ import annotations

import json
import multiprocessing
import uuid
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Lock
from typing import Any

from app.benchmark.measure import Row
from app.benchmark.protocol import Protocol
from app.benchmark.worker import work
from app.errors import Busy, Conflict
from index import Database, NotFound

MAX_WAITING = 8
Outcome = tuple[str, str | None, str | None, str | None]
"""State, result, error and report."""

_SCHEMA = """CREATE TABLE IF NOT EXISTS benchmarks (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    request TEXT NOT NULL,
    result TEXT,
    error TEXT,
    report TEXT
) STRICT"""


class Benchmarks:
    """Benchmarks by id, in the record from the moment they are accepted.

    States: `queued`, `running`, `done` with a result and a report, `failed` with an error.
    """

    def __init__(self, database: Database, data_dir: Path) -> None:
        self._database = database
        self._data_dir = data_dir
        self._worker = ThreadPoolExecutor(1, "benchmark")
        self._lock = Lock()
        self._process: BaseProcess | None = None
        self._progress: dict[str, dict[str, Any]] = {}
        self._closed = False
        with database.transaction() as connection:
            connection.execute(_SCHEMA)
            connection.execute(
                "UPDATE benchmarks SET state = 'failed', "
                "error = 'the service stopped before it was done' "
                "WHERE state IN ('queued', 'running')"
            )

    def start(self, dataset: str, table: list[Row], protocol: Protocol, seeds: list[int]) -> str:
        """Queue a benchmark of a dataset known by name; its id. Busy where too many wait."""
        benchmark = uuid.uuid4().hex[:12]
        request = {
            "dataset": dataset,
            "protocol": protocol.name,
            "rows": [[row.method, row.n_bits] for row in table],
            "seeds": seeds,
        }
        with self._lock:
            if len(self._progress) >= MAX_WAITING:
                raise Busy(f"{MAX_WAITING} benchmarks are waiting already")
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT INTO benchmarks (id, state, request) VALUES (?, 'queued', ?)",
                    (benchmark, json.dumps(request)),
                )
            self._progress[benchmark] = {"done": 0, "of": len(table) * len(seeds), "now": "queued"}
        self._worker.submit(self._run, benchmark, dataset, table, protocol, seeds)
        return benchmark

    def get(self, benchmark: str) -> dict[str, Any]:
        """State, progress, result and error of a benchmark; NotFound where there is none."""
        rows = self._database.read(
            "SELECT id, state, request, result, error FROM benchmarks WHERE id = ?", (benchmark,)
        )
        if not rows:
            raise NotFound(f"there is no benchmark {benchmark!r}")
        return self._shown(*rows[0])

    def _shown(
        self, benchmark: str, state: str, request: str, result: str | None, error: str | None
    ) -> dict[str, Any]:
        return {
            "id": benchmark,
            "state": state,
            "request": json.loads(request),
            "progress": self._progress.get(benchmark),
            "result": json.loads(result) if result else None,
            "error": error,
        }

    def list(self) -> list[dict[str, Any]]:
        """All benchmarks without their results, the newest first."""
        rows = self._database.read(
            "SELECT id, state, request, NULL, error FROM benchmarks ORDER BY rowid DESC"
        )
        return [self._shown(*row) for row in rows]

    def report(self, benchmark: str) -> str:
        """The HTML page of a benchmark that is done; NotFound, or Conflict where it is not done."""
        rows = self._database.read(
            "SELECT state, report FROM benchmarks WHERE id = ?", (benchmark,)
        )
        if not rows:
            raise NotFound(f"there is no benchmark {benchmark!r}")
        ((state, page),) = rows
        if state != "done":
            raise Conflict(
                f"benchmark {benchmark!r} is {state}; only one that is done has a report"
            )
        return str(page)

    def close(self) -> None:
        """Stop what runs and what waits; the next start finds them failed."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.terminate()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _run(self, benchmark: str, *task: Any) -> None:
        outcome: Outcome = ("failed", None, "its process could not be started", None)
        try:
            with self._lock:
                if self._closed:
                    return
                self._set(benchmark, "running")
                context = multiprocessing.get_context("spawn")
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=work, args=(theirs, self._data_dir, *task), daemon=True
                )
                process.start()
                self._process = process
            theirs.close()
            outcome = self._follow(benchmark, ours)
            process.join()
        finally:
            with self._lock:
                self._process = None
                del self._progress[benchmark]
                if not self._closed:
                    self._set(benchmark, *outcome)

    def _follow(self, benchmark: str, ours: Connection) -> Outcome:
        """Take progress from the process until it gives the outcome or is gone."""
        with ours:
            try:
                while isinstance(message := ours.recv(), dict):
                    self._progress[benchmark] = message
            except (EOFError, OSError):
                return "failed", None, "its process ended without a result", None
        outcome: Outcome = message
        return outcome

    def _set(
        self,
        benchmark: str,
        state: str,
        result: str | None = None,
        error: str | None = None,
        report: str | None = None,
    ) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE benchmarks SET state = ?, result = ?, error = ?, report = ? WHERE id = ?",
                (state, result, error, report, benchmark),
            )
