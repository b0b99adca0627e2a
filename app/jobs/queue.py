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

from app.database.engine import message
from app.database.state import State
from app.errors import Conflict, is_full, shortage
from app.jobs.folders import JobFolders
from app.jobs.kind import Kind, Outcome, Progress, Task
from app.jobs.open_job import OpenJob, first_step
from app.jobs.process import JobFailed, JobProcess
from app.jobs.record import JobFields, JobRecord, NotOurs
from app.jobs.shared.claims import Claims
from app.jobs.shared.replica import Replica
from app.pools import Pool
from index import Unavailable

MAX_STARTS = 3
"""If the service was killed this often while a job ran, the job may be the cause: it fails."""

STOP_SECONDS = 1.0
"""How long `Jobs.close` waits for threads. They notice a stop at the next batch."""

RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 240.0)
"""How long a job waits after each try that fails because the system is short of something."""

BEAT_SECONDS = 1.0
STALE_SECONDS = 30.0
"""How long a replica that shares its jobs may be silent before another one takes them."""

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

    Replicas that share a database share its jobs: each runs in one of them, every one shows and
    cancels them all, and those of a replica that stops or is killed run again in another one.

    Parameters
    ----------
    state : State
    data_dir : Path
    kinds : mapping of str to Kind
    workers : int
        Number of jobs that run at the same time.
    limit : int
        Number of jobs that may be queued or running.
    files_dir : Path, optional
        Where datasets are; by default in `data_dir`.
    beat, stale : float
        In a shared database: seconds between two looks into it, and those after which a replica
        that has not looked counts as killed.
    """

    def __init__(
        self,
        state: State,
        data_dir: Path,
        kinds: Mapping[str, Kind],
        *,
        workers: int = 2,
        limit: int = 16,
        files_dir: Path | None = None,
        beat: float = BEAT_SECONDS,
        stale: float = STALE_SECONDS,
    ) -> None:
        self._claims = Claims(state, stale) if state.shared else None
        self._record = JobRecord(state, self._claims.owner if self._claims else None)
        self._replica = Replica(self._work_with_others, beat)
        self._files_dir = files_dir or data_dir
        self._kinds = dict(kinds)
        self._folders = JobFolders(data_dir)
        self._folders.remove_leftovers(self._record)
        self._limit = limit
        # One core is left for queries.
        self._threads = max(1, (os.cpu_count() or 1) - 1)
        self._n_workers = workers
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
        if self._claims is not None:
            self._replica.start()
            return
        with self._lock:
            for job, kind, request in self._record.requeue(MAX_STARTS):
                log.info("job resumed", job=job, kind=kind)
                self._enqueue(OpenJob(job, kind, request))

    def add(self, kind: str, request: dict[str, Any], material: bytes | None = None) -> str:
        """Queue a job and return its id; raise TooMany if the queue is full."""
        job = uuid.uuid4().hex[:12]
        with self._lock:
            self._record.add(job, kind, request, material, self._limit)
            if self._claims is not None:
                self._replica.wake()
                return job
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
        return [request for _, request in self._record.open_requests(kind)]

    def trains(self, encoder: str) -> str | None:
        """Return the id of the job that is to train this encoder; None if there is none."""
        for job, request in self._record.open_requests("training"):
            if request["name"] == encoder:
                return job
        return None

    def get(self, job: str, kind: str | None = None) -> JobFields:
        """Return a job without its output; raise NotFound if there is none, or not of that kind."""
        return self._with_progress([self._record.get(job, kind)])[0]

    def newest(self, kind: str | None = None, limit: int = 1000) -> list[JobFields]:
        """Return jobs without their results, newest first."""
        return self._with_progress(self._record.newest(kind, limit))

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
                self._remove_elsewhere(job)
            else:
                self._cancel(entry)

    def _cancel(self, entry: OpenJob) -> None:
        """Cancel a job that this process works on. Requires the lock."""
        if entry.started is None:
            try:
                self._record.end(entry.id, "cancelled")
            except NotOurs:
                self._forget(entry)
                self._remove_elsewhere(entry.id)
                return
            self._close_entry(entry, "cancelled")
            entry.interrupted.set()
            return
        again = entry.cancelled
        entry.cancelled = True
        entry.interrupted.set()
        if entry.process is not None:
            if self._kinds[entry.kind].partial and not again:
                entry.process.interrupt()
            else:
                entry.process.kill()

    def _remove_elsewhere(self, job: str) -> None:
        """Remove a job that this process does not work on."""
        self._record.get(job, None)
        if self._claims is None or not self._claims.cancel(job):
            self._record.drop(job)
        self._notify()

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
        self._replica.close(seconds)
        ended = self._workers.close(seconds)
        if not ended:
            log.warning("the service stops although jobs are still running")
        with self._lock:
            self._write_kept_ends()
            self._release_claims()
        return ended

    def _release_claims(self, job: str | None = None) -> None:
        """Leave a job of this process, or all, to other replicas."""
        if self._claims is not None:
            try:
                self._claims.release(job)
            except Unavailable:
                log.warning("other replicas take the jobs of this one after some time")

    def _work_with_others(self) -> None:
        """Confirm the claims of this replica, pass on who cancels, and take jobs if it has room."""
        claims = self._claims
        if claims is None:
            return
        with self._lock:
            self._write_kept_ends()
            known = dict(self._open)
        cancels = claims.confirm({job: entry.progress for job, entry in known.items()})
        for job, entry in known.items():
            if job not in cancels:
                self._give_up(entry)
            elif cancels[job] > entry.cancels:
                self._pass_on(entry, cancels[job])
        while len(self._open) < self._n_workers and not self._closed:
            if (taken := claims.take(self._kinds, MAX_STARTS)) is None:
                break
            self._enqueue_taken(OpenJob(*taken))
        self._notify()  # Of what happens in other replicas, nothing else tells the listeners.

    def _pass_on(self, entry: OpenJob, cancels: int) -> None:
        """Cancel a job of this process as often as other replicas have done so."""
        with self._lock:
            while entry.cancels < cancels and self._open.get(entry.id) is entry:
                entry.cancels += 1
                self._cancel(entry)

    def _enqueue_taken(self, entry: OpenJob) -> None:
        with self._lock:
            try:
                self._enqueue(entry)
            except RuntimeError:  # There is no thread for it: another replica may have one.
                self._open.pop(entry.id, None)
                self._release_claims(entry.id)

    def _give_up(self, entry: OpenJob) -> None:
        with self._lock:
            if self._open.get(entry.id) is entry:
                self._forget(entry)

    def _forget(self, entry: OpenJob) -> None:
        """Stop working on a job that another replica has taken. Requires the lock."""
        log.warning("another replica has taken the job", job=entry.id, kind=entry.kind)
        del self._open[entry.id]
        entry.interrupted.set()
        if entry.process is not None:
            entry.process.kill()

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
            error = message(failure) or type(failure).__name__
            if is_full(failure):
                error = f"the disk is full: {error}"
            log.warning("job failed", job=entry.id, kind=entry.kind, exc_info=failure)
        with self._lock:
            entry.process = None
            if self._open.get(entry.id) is not entry:
                return  # Cancelled before it started, or taken by another replica.
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

        def wait(reason: str) -> None:
            with self._lock:
                if entry.started is not None:
                    self._put_back(entry)
                entry.postpone(reason)

        def keep_running(reason: str) -> None:
            entry.progress = first_step(reason)

        outcome = self._patiently(entry, lambda: self._work(entry), wait)
        finish = self._kinds[entry.kind].finish
        # Tried again alone: the work before it may have taken hours.
        return self._patiently(entry, lambda: finish(entry.request, outcome), keep_running)

    def _patiently(
        self, entry: OpenJob, step: Callable[[], Outcome], wait: Callable[[str], None]
    ) -> Outcome:
        """Return what a step of a job returns; call `wait` with the reason before each new try."""
        for seconds in RETRY_SECONDS:
            try:
                return step()
            except Unavailable as error:
                reason = str(error)
            except (OSError, MemoryError, RuntimeError) as error:
                if (what := shortage(error)) is None:
                    raise
                reason = f"the service is short of {what}"
                log.warning("job waits", job=entry.id, short=what, error=str(error))
            wait(f"waiting: {reason}")
            self._notify()
            entry.interrupted.wait(seconds)
            self._check_wanted(entry)
        return step()

    def _work(self, entry: OpenJob) -> Outcome:
        """Return what a job produced; raise _Stopped, JobFailed, or what its kind raises."""
        self._check_wanted(entry)
        kind, report = self._kinds[entry.kind], self._reporter(entry)
        with self._folders.of(entry.id) as folder:
            task = Task(self._files_dir, folder, entry.request, self._record.material(entry.id))
            kind.prepare(entry.request, folder, report)
            if kind.inside:
                return self._work_inside(entry, kind, task, report)
            return self._work_in_process(entry, kind, task)

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
        if self._closed or entry.cancelled or self._open.get(entry.id) is not entry:
            raise _Stopped

    def _start(self, entry: OpenJob) -> None:
        """Record that a job runs, or raise _Stopped. Requires the lock."""
        self._check_wanted(entry)
        try:
            self._record.start(entry.id)
        except NotOurs:
            self._forget(entry)
            raise _Stopped from None
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
        except NotOurs:
            self._forget(entry)
            return
        except Exception as failure:
            log.exception("end of job not written", job=entry.id, kind=entry.kind, state=state)
            if state == "done":
                state = "failed"
                error = f"the job was done, but its result could not be written: {message(failure)}"
            self._record.keep_end(entry.id, state, error)
        else:
            self._write_kept_ends()
        self._close_entry(entry, state)

    def _write_kept_ends(self) -> None:
        try:
            self._record.write_kept_ends()
        except Unavailable:
            log.debug("ends of earlier jobs are written when the database is back")
        except Exception:
            log.exception("ends of earlier jobs still not written")

    def _close_entry(self, entry: OpenJob, state: str) -> None:
        """Free the place of a job that has ended. Requires the lock."""
        del self._open[entry.id]
        self._replica.wake()
        seconds = entry.seconds()
        log.info("job ended", job=entry.id, kind=entry.kind, state=state, seconds=round(seconds, 3))
        self.on_end(entry.kind, state, seconds)
        self._notify()

    def _notify(self) -> None:
        for listener in list(self._listeners.values()):
            listener()

    def _with_progress(self, found: list[JobFields]) -> list[JobFields]:
        elsewhere: dict[str, JobFields] | None = None
        for fields in found:
            fields["progress"] = None
            if fields["state"] in ENDED:
                continue
            if (entry := self._open.get(fields["id"])) is not None:
                fields["progress"] = entry.progress
            elif self._claims is not None:
                elsewhere = self._claims.progress() if elsewhere is None else elsewhere
                fields["progress"] = elsewhere.get(fields["id"], first_step("queued"))
        return found


def _log_failure(run: Future[None]) -> None:
    """Log an exception that `_run` did not handle."""
    if not run.cancelled() and (failure := run.exception()) is not None:
        log.error("job handling failed", exc_info=failure)
