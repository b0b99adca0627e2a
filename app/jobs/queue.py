"""The queue of jobs. A job is in the database from the moment it is accepted."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import structlog

from app.database.state import State
from app.errors import Conflict, TooMany, is_full, shortage
from app.jobs.folders import JobFolders
from app.jobs.kind import Kind, Outcome, Progress, Task
from app.jobs.open_job import OpenJob
from app.jobs.process import JobFailed, JobProcess
from app.jobs.record import JobFields, JobRecord
from app.pools import Pool

MAX_STARTS = 3
"""If the service was killed this often while a job ran, the job may be the cause: it fails."""

STOP_SECONDS = 1.0
"""How long `Jobs.close` waits for threads. They notice a stop at the next batch."""

RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 240.0)
"""How long a job waits after each try that fails because the system is short of something."""

ENDED = ("done", "failed", "cancelled")

log = structlog.stdlib.get_logger("bitcell")


class _Stopped(Exception):
    """The job has been cancelled, or the service is stopping."""


class Jobs:
    """Jobs by id. Each runs in a process of its own, or as its `Kind` says. Thread-safe.

    States: `queued`, `running`, then `done` with a result, `failed` with an error, or `cancelled`.
    A job that has not ended when the service stops is run again at the next start. A job fails if
    the service was killed three times while it ran. If the system is short of file descriptors,
    memory or processes, a job waits and is tried again.

    Parameters
    ----------
    state : State
    data_dir : Path
    kinds : mapping of str to Kind
    workers : int
        Number of jobs that run at the same time.
    limit : int
        Number of jobs that may be queued or running.
    """

    def __init__(
        self,
        state: State,
        data_dir: Path,
        kinds: Mapping[str, Kind],
        *,
        workers: int = 2,
        limit: int = 16,
    ) -> None:
        self._record = JobRecord(state)
        self._data_dir = data_dir
        self._kinds = dict(kinds)
        self._folders = JobFolders(data_dir)
        self._folders.remove_leftovers(self._record)
        self._limit = limit
        # One core is left for queries.
        self._threads = max(1, (os.cpu_count() or 1) - 1)
        self._workers = Pool(workers, "job")
        self._lock = Lock()
        self._open: dict[str, OpenJob] = {}
        self._listeners: dict[object, Callable[[], object]] = {}
        self._closed = False
        self.stopping = False
        """Whether the service is about to stop, so that streams of events should end."""
        self.on_end: Callable[[str, str, float], None] = lambda kind, state, seconds: None
        """Called with kind, state and running time in seconds when a job has ended."""

    def resume(self) -> None:
        """Queue the jobs that an earlier run left unfinished. Call it once, after all else."""
        with self._lock:
            for job, kind, request in self._record.requeue(MAX_STARTS):
                log.info("job resumed", job=job, kind=kind)
                self._enqueue(OpenJob(job, kind, request))

    def add(self, kind: str, request: dict[str, Any], material: bytes | None = None) -> str:
        """Queue a job and return its id; raise TooMany if the queue is full."""
        job = uuid.uuid4().hex[:12]
        with self._lock:
            if len(self._open) >= self._limit:
                raise TooMany(
                    f"{self._limit} jobs are queued or running, which is the limit "
                    "(BITCELL_MAX_JOBS)"
                )
            self._record.add(job, kind, request, material)
            try:
                self._enqueue(OpenJob(job, kind, request))
            except RuntimeError:  # There is no thread for it.
                del self._open[job]
                self._record.drop(job)
                raise
            self._write_kept_ends()
        return job

    def open_requests(self, kind: str) -> list[dict[str, Any]]:
        """Return the requests of all jobs of a kind that have not ended."""
        with self._lock:
            return [entry.request for entry in self._open.values() if entry.kind == kind]

    def trains(self, encoder: str) -> str | None:
        """Return the id of the job that is to train this encoder; None if there is none."""
        with self._lock:
            for entry in self._open.values():
                if entry.kind == "training" and entry.request["name"] == encoder:
                    return entry.id
        return None

    def get(self, job: str, kind: str | None = None) -> JobFields:
        """Return a job without its output; raise NotFound if there is none, or not of that kind."""
        return self._with_progress(self._record.get(job, kind))

    def newest(self, kind: str | None = None, limit: int = 1000) -> list[JobFields]:
        """Return jobs without their results, newest first."""
        return [self._with_progress(fields) for fields in self._record.newest(kind, limit)]

    def counts(self) -> list[tuple[str, str, int]]:
        """Return the number of jobs by kind and state."""
        return self._record.counts()

    def output(self, job: str, kind: str) -> bytes:
        """Return the bytes that a job produced; raise Conflict if it has produced none."""
        state = self.get(job, kind)["state"]
        output = self._record.output(job) if state in ("done", "cancelled") else b""
        if state != "done" and not output:
            raise Conflict(f"{kind} {job!r} has no report: its state is {state}, not done")
        return output

    def output_reader(self, job: str, kind: str) -> Callable[[int, int], bytes]:
        """Return what reads the bytes that a job produced: (offset, size) to bytes.

        Raise Conflict unless the job is done.
        """
        state = self.get(job, kind)["state"]
        if state != "done":
            raise Conflict(f"{kind} {job!r} has no result: its state is {state}, not done")
        return partial(self._record.output_part, job)

    def remove(self, job: str) -> None:
        """Cancel a job that is queued or running; delete one that has ended.

        A running job of a kind that can be `partial` gets some seconds to return what it has. A
        second call ends it at once.
        """
        with self._lock:
            entry = self._open.get(job)
            if entry is None:
                self._record.get(job, None)
                self._record.drop(job)
            elif entry.started is None:
                self._record.end(job, "cancelled")
                self._close_entry(entry, "cancelled")
                entry.interrupted.set()
            else:
                again = entry.cancelled
                entry.cancelled = True
                entry.interrupted.set()
                if entry.process is not None:
                    if self._kinds[entry.kind].partial and not again:
                        entry.process.interrupt()
                    else:
                        entry.process.kill()

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call `listener`, in any thread, at every change of a job; return what ends this."""
        key = object()
        self._listeners[key] = listener

        def unsubscribe() -> None:
            self._listeners.pop(key, None)

        return unsubscribe

    def stop_following(self) -> None:
        """Tell listeners that the service is about to stop."""
        self.stopping = True
        self._notify()

    def close(self, seconds: float = STOP_SECONDS) -> bool:
        """Stop all jobs; the next start of the service runs them again.

        Return whether their threads ended within `seconds`.
        """
        with self._lock:
            self._closed = True
            for entry in self._open.values():
                entry.interrupted.set()
                if entry.process is not None:
                    entry.process.kill()
        ended = self._workers.close(seconds)
        if not ended:
            log.warning("the service stops although jobs are still running")
        with self._lock:
            self._write_kept_ends()
        return ended

    def _enqueue(self, entry: OpenJob) -> None:
        self._open[entry.id] = entry
        self._workers.submit(self._run, entry).add_done_callback(_log_failure)

    def _run(self, entry: OpenJob) -> None:
        """Run a job from its preparation to its end, in a thread of `_workers`."""
        outcome, error = None, None
        try:
            outcome = self._work_patiently(entry)
        except _Stopped:
            pass
        except JobFailed as failure:
            error = str(failure)
        except Exception as failure:
            error = str(failure) or type(failure).__name__
            if is_full(failure):
                error = f"the disk is full: {error}"
            log.warning("job failed", job=entry.id, kind=entry.kind, exc_info=failure)
        with self._lock:
            entry.process = None
            if entry.id not in self._open:
                return  # Cancelled before it started.
            if outcome is not None:
                self._end(entry, "cancelled" if outcome.partial else "done", outcome)
            elif entry.cancelled:
                self._end(entry, "cancelled")
            elif not self._closed:
                self._end(entry, "failed", error=error)
            elif entry.started is not None:
                self._put_back(entry)

    def _work_patiently(self, entry: OpenJob) -> Outcome:
        """Work on a job; if the system is short of files, memory or processes, try again later."""
        for seconds in RETRY_SECONDS:
            try:
                return self._work(entry)
            except (OSError, MemoryError, RuntimeError) as error:
                if (what := shortage(error)) is None:
                    raise
                log.warning("job waits", job=entry.id, short=what, error=str(error))
            with self._lock:
                if entry.started is not None:
                    self._put_back(entry)
                entry.postpone(f"waiting: the service is short of {what}")
            self._notify()
            entry.interrupted.wait(seconds)
        return self._work(entry)

    def _work(self, entry: OpenJob) -> Outcome:
        """Return what a job produced; raise _Stopped, JobFailed, or what its kind raises."""
        self._check_wanted(entry)
        kind, report = self._kinds[entry.kind], self._reporter(entry)
        with self._folders.of(entry.id) as folder:
            task = Task(self._data_dir, folder, entry.request, self._record.material(entry.id))
            kind.prepare(entry.request, folder, report)
            if kind.inside:
                outcome = self._work_inside(entry, kind, task, report)
            else:
                outcome = self._work_in_process(entry, kind, task)
        return kind.finish(entry.request, outcome)

    def _work_inside(self, entry: OpenJob, kind: Kind, task: Task, report: Progress) -> Outcome:
        with self._lock:
            self._start(entry)
        self._notify()
        return kind.work(task, report)

    def _work_in_process(self, entry: OpenJob, kind: Kind, task: Task) -> Outcome:
        with self._lock:
            self._start(entry)
            process = JobProcess(kind.work, task, self._threads)
            process.start()
            entry.process = process
        self._notify()
        return process.follow(partial(self._note_progress, entry))

    def _reporter(self, entry: OpenJob) -> Progress:
        """Return a `progress` that raises _Stopped when the job must end."""

        def report(done: int, of: int, now: str) -> None:
            self._check_wanted(entry)
            self._note_progress(entry, done, of, now)

        return report

    def _check_wanted(self, entry: OpenJob) -> None:
        if self._closed or entry.cancelled or entry.id not in self._open:
            raise _Stopped

    def _start(self, entry: OpenJob) -> None:
        """Record that a job runs, or raise _Stopped. Requires the lock."""
        self._check_wanted(entry)
        self._record.start(entry.id)
        entry.start()

    def _note_progress(self, entry: OpenJob, done: int, of: int, now: str) -> None:
        entry.note_progress(done, of, now)
        self._notify()

    def _put_back(self, entry: OpenJob) -> None:
        try:
            self._record.put_back(entry.id)
        except Exception:
            log.exception("job not put back: the next start counts it as killed", job=entry.id)

    def _end(
        self, entry: OpenJob, state: str, outcome: Outcome | None = None, error: str | None = None
    ) -> None:
        """Record how a job ended, on disk or else in memory. Requires the lock."""
        result, output = (outcome.result, outcome.output) if outcome else (None, None)
        try:
            self._record.end(entry.id, state, result, output, error)
        except Exception as failure:
            log.exception("end of job not written", job=entry.id, kind=entry.kind, state=state)
            if state == "done":
                state = "failed"
                error = f"the job was done, but its result could not be written: {failure}"
            self._record.keep_end(entry.id, state, error)
        else:
            self._write_kept_ends()
        self._close_entry(entry, state)

    def _write_kept_ends(self) -> None:
        try:
            self._record.write_kept_ends()
        except Exception:
            log.exception("ends of earlier jobs still not written")

    def _close_entry(self, entry: OpenJob, state: str) -> None:
        """Free the place of a job that has ended. Requires the lock."""
        del self._open[entry.id]
        seconds = entry.seconds()
        log.info("job ended", job=entry.id, kind=entry.kind, state=state, seconds=round(seconds, 3))
        self.on_end(entry.kind, state, seconds)
        self._notify()

    def _notify(self) -> None:
        for listener in list(self._listeners.values()):
            listener()

    def _with_progress(self, fields: JobFields) -> JobFields:
        entry = self._open.get(fields["id"])
        is_open = entry is not None and fields["state"] not in ENDED
        return fields | {"progress": entry.progress if entry and is_open else None}


def _log_failure(run: Future[None]) -> None:
    """Log an exception that `_run` did not handle."""
    if not run.cancelled() and (failure := run.exception()) is not None:
        log.error("job handling failed", exc_info=failure)
