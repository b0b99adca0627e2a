"""The jobs of a service: in the record from the moment they are accepted, never lost."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Lock
from typing import Any

import structlog

from app.errors import Conflict, TooMany
from app.jobs import process
from app.jobs.kind import Kind, Outcome, Task
from app.jobs.record import JobRecord, Shown
from index import Database

MAX_STARTS = 3
"""A job that a service was killed with this often is not run again: it may be why."""

ENDED = ("done", "failed", "cancelled")

log = structlog.stdlib.get_logger("bitcell")


@dataclass
class _Open:
    """A job that has not ended, as far as it is not in the record."""

    kind: str
    request: dict[str, Any]
    progress: dict[str, Any] = field(
        default_factory=lambda: {"done": 0, "of": 1, "now": "queued", "seconds_left": None}
    )
    started: float | None = None
    process: BaseProcess | None = None
    cancelled: bool = False


class _Stopped(Exception):
    """A job inside the service is to end."""


class Jobs:
    """Jobs by id, each worked on in a process of its own, or as `Kind` says. Safe for threads.

    States: `queued`, `running`; `done` with a result, `failed` with an error, `cancelled`. A job
    that had not ended when the service stopped is run again at the next start; one that a service
    was killed with three times is failed then.

    Parameters
    ----------
    database : Database
    data_dir : Path
    kinds : mapping of str to Kind
    workers : int
        Jobs that run at the same time.
    limit : int
        Jobs that may wait or run.
    """

    def __init__(
        self,
        database: Database,
        data_dir: Path,
        kinds: Mapping[str, Kind],
        *,
        workers: int = 2,
        limit: int = 16,
    ) -> None:
        self._record = JobRecord(database)
        self._data_dir = data_dir
        self._kinds = dict(kinds)
        self._folder = data_dir / "jobs"
        # What a crash has left.
        shutil.rmtree(self._folder, ignore_errors=True)
        self._limit = limit
        # One core is for the queries.
        self._threads = max(1, (os.cpu_count() or 1) - 1)
        self._workers = ThreadPoolExecutor(workers, "job")
        self._lock = Lock()
        self._open: dict[str, _Open] = {}
        self._listeners: dict[object, Callable[[], object]] = {}
        self._closed = False
        self.stopping = False
        """Whether the service is about to stop, so that nobody is to follow a job any more."""
        self.on_end: Callable[[str, str, float], None] = lambda kind, state, seconds: None
        """Called with kind, state and seconds of running when a job has ended."""

    def resume(self) -> None:
        """Take up what an earlier service has left; to be called once, when all else is there."""
        with self._lock:
            for job, kind, request in self._record.take_up(MAX_STARTS):
                log.info("job is taken up again", job=job, kind=kind)
                self._enqueue(job, kind, request)

    def add(self, kind: str, request: dict[str, Any], material: bytes | None = None) -> str:
        """Queue a job whose request was checked; its id. TooMany where too many wait."""
        job = uuid.uuid4().hex[:12]
        with self._lock:
            if len(self._open) >= self._limit:
                raise TooMany(f"{self._limit} jobs wait or run already (BITCELL_MAX_JOBS)")
            self._record.add(job, kind, request, material)
            self._enqueue(job, kind, request)
        return job

    def open_requests(self, kind: str) -> list[dict[str, Any]]:
        """What the jobs of a kind that have not ended are to do."""
        with self._lock:
            return [one.request for one in self._open.values() if one.kind == kind]

    def get(self, job: str, kind: str | None = None) -> Shown:
        """All of a job but its output; NotFound where there is none, or none of that kind."""
        return self._with_progress(self._record.get(job, kind))

    def newest(self, kind: str | None = None, limit: int = 1000) -> list[Shown]:
        """The newest jobs without their results, the newest first."""
        return [self._with_progress(shown) for shown in self._record.newest(kind, limit)]

    def counts(self) -> list[tuple[Any, ...]]:
        """Kind, state and how many jobs there are."""
        return self._record.counts()

    def output(self, job: str, kind: str) -> bytes:
        """The bytes that a job gave; Conflict where it is not done."""
        state = self.get(job, kind)["state"]
        if state != "done":
            raise Conflict(f"{kind} {job!r} is {state}; only one that is done has a report")
        return self._record.output(job)

    def remove(self, job: str) -> None:
        """Cancel a job that waits or runs; forget one that has ended."""
        with self._lock:
            mine = self._open.get(job)
            if mine is None:
                self._record.get(job, None)
                self._record.drop(job)
            elif mine.started is None:
                self._end(job, "cancelled")
            else:
                mine.cancelled = True
                if mine.process is not None:
                    mine.process.kill()

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Have `listener` called, from any thread, when a job changes; what ends that."""
        key = object()
        self._listeners[key] = listener

        def stop() -> None:
            self._listeners.pop(key, None)

        return stop

    def stop_following(self) -> None:
        """Tell who follows a job that the service is about to stop."""
        self.stopping = True
        self._changed()

    def close(self) -> None:
        """Stop what runs; the next start takes it up again."""
        with self._lock:
            self._closed = True
            for mine in self._open.values():
                if mine.process is not None:
                    mine.process.kill()
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _enqueue(self, job: str, kind: str, request: dict[str, Any]) -> None:
        self._open[job] = _Open(kind, request)
        self._workers.submit(self._run, job)

    def _run(self, job: str) -> None:
        with self._lock:
            if self._closed or job not in self._open:
                return
            mine = self._open[job]
        outcome, error = None, None
        try:
            outcome, error = self._work(job, mine)
            if outcome is not None:
                outcome = self._kinds[mine.kind].finish(mine.request, outcome)
        except Exception as failure:
            outcome, error = None, str(failure) or type(failure).__name__
            log.warning("job failed", job=job, kind=mine.kind, exc_info=failure)
        with self._lock:
            mine.process = None
            if job not in self._open:
                return  # Cancelled before it had a process.
            if outcome is not None:
                self._end(job, "done", outcome)
            elif mine.cancelled:
                self._end(job, "cancelled")
            elif not self._closed:
                self._end(job, "failed", error=error)
            elif mine.started is not None:
                self._record.put_back(job)

    def _work(self, job: str, mine: _Open) -> tuple[Outcome | None, str | None]:
        """Work on a job: what came out, or why nothing did."""
        kind, folder = self._kinds[mine.kind], self._folder / job
        task = Task(self._data_dir, folder, mine.request, self._record.material(job))
        folder.mkdir(parents=True, exist_ok=True)
        try:
            kind.prepare(mine.request, folder)
            return (self._inside if kind.inside else self._in_a_process)(job, mine, kind, task)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _inside(
        self, job: str, mine: _Open, kind: Kind, task: Task
    ) -> tuple[Outcome | None, str | None]:
        def progress(done: int, of: int, now: str) -> None:
            if mine.cancelled or self._closed:
                raise _Stopped
            self._note(mine, {"done": done, "of": of, "now": now})

        with self._lock:
            if not self._start(job, mine):
                return None, None
        self._changed()
        try:
            return kind.work(task, progress), None
        except _Stopped:
            return None, None

    def _in_a_process(
        self, job: str, mine: _Open, kind: Kind, task: Task
    ) -> tuple[Outcome | None, str | None]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        running = context.Process(
            target=process.main, args=(theirs, kind.work, task, self._threads), daemon=True
        )
        with ours:
            with theirs, self._lock:
                if not self._start(job, mine):
                    return None, None
                running.start()
                mine.process = running
            self._changed()
            try:
                while isinstance(message := ours.recv(), dict):
                    self._note(mine, message)
            except (EOFError, OSError):
                message = None
        running.join()
        if message is None:
            message = f"its process ended without a result (exit code {running.exitcode})"
        return (message, None) if isinstance(message, Outcome) else (None, message)

    def _start(self, job: str, mine: _Open) -> bool:
        """Note that it runs, unless it is not to any more; to be called with the lock."""
        if self._closed or job not in self._open:
            return False
        mine.started = time.time()
        mine.progress = mine.progress | {"now": "starting"}
        self._record.start(job)
        return True

    def _note(self, mine: _Open, progress: dict[str, Any]) -> None:
        mine.progress = progress | {"seconds_left": _left(progress, mine.started or time.time())}
        self._changed()

    def _end(
        self, job: str, state: str, outcome: Outcome | None = None, error: str | None = None
    ) -> None:
        """Note how a job ended; to be called with the lock."""
        result, output = (outcome.result, outcome.output) if outcome else (None, None)
        self._record.end(job, state, result, output, error)
        mine = self._open.pop(job)
        seconds = time.time() - mine.started if mine.started else 0.0
        log.info("job ended", job=job, kind=mine.kind, state=state, seconds=round(seconds, 3))
        self.on_end(mine.kind, state, seconds)
        self._changed()

    def _changed(self) -> None:
        for listener in list(self._listeners.values()):
            listener()

    def _with_progress(self, shown: Shown) -> Shown:
        mine = self._open.get(shown["id"])
        running = mine is not None and shown["state"] not in ENDED
        return shown | {"progress": mine.progress if mine and running else None}


def _left(progress: dict[str, Any], started: float) -> float | None:
    """Seconds left if each step takes as long as those before."""
    done, of = progress["done"], progress["of"]
    return round((time.time() - started) / done * (of - done), 1) if done else None
