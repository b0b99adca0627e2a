"""The events of jobs, for all the streams that follow one."""

from __future__ import annotations

import asyncio
from asyncio import Future, TimerHandle
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from app.http.schemas import JobOut
from app.jobs.queue import ENDED, Jobs
from index import NotFound, Unavailable

PAUSE_SECONDS = 0.1
"""Changes of jobs within this time are sent together."""
CHECK_SECONDS = 1.0
"""A stream ends at most this long after its key has been revoked."""
PING_SECONDS = 15.0


@dataclass(frozen=True)
class _Shown:
    event: bytes
    has_ended: bool


class JobEvents:
    """Events of jobs. A job is read once after a change, however many streams follow it.

    Create it in the event loop that it is used in.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._loop = asyncio.get_running_loop()
        # Set and replaced after each change.
        self._changed = asyncio.Event()
        self._notified = False
        self._timer: TimerHandle | None = None
        self._last_change = 0.0
        # The jobs that have been read since the last change.
        self._read: dict[str, Future[_Shown | None]] = {}
        self._stop_listening = jobs.listen(self._notify)

    def close(self) -> None:
        """Stop listening to the jobs."""
        self._stop_listening()

    async def follow(
        self, job: str, is_allowed: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """Yield a job now and after changes.

        This ends when the job has ended or been removed, when the service stops, when
        `is_allowed` returns False, and when the database of jobs or keys cannot be reached.
        """
        with suppress(Unavailable):
            async for event in self._events(job, is_allowed):
                yield event

    async def _events(
        self, job: str, is_allowed: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        sent, sent_at = b"", 0.0
        while await is_allowed():
            # Before the job is read, so that no change falls between the read and the wait.
            changed = self._changed
            shown = await self._show(job)
            if shown is None:
                return
            now = self._loop.time()
            if shown.event != sent or now - sent_at >= PING_SECONDS:
                yield KEEPALIVE_COMMENT if shown.event == sent else shown.event
                sent, sent_at = shown.event, now
            if shown.has_ended or self._jobs.stopping:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await changed.wait()

    async def _show(self, job: str) -> _Shown | None:
        if job not in self._read:
            reading = asyncio.ensure_future(run_in_threadpool(self._read_job, job))
            self._read[job] = reading
            reading.add_done_callback(partial(self._forget_failure, job))
        # Shielded, because others wait for it too.
        return await asyncio.shield(self._read[job])

    def _forget_failure(self, job: str, reading: Future[_Shown | None]) -> None:
        """Let the next stream try again, for instance if there was no thread."""
        failed = reading.cancelled() or reading.exception() is not None
        if failed and self._read.get(job) is reading:
            del self._read[job]

    def _read_job(self, job: str) -> _Shown | None:
        try:
            shown = JobOut(**self._jobs.get(job))
        except NotFound:
            return None  # Removed after it ended.
        event = format_sse_event(data_str=shown.model_dump_json())
        return _Shown(event, shown.state in ENDED)

    def _notify(self) -> None:
        """Note a change, in any thread."""
        if not self._notified:
            self._notified = True
            self._loop.call_soon_threadsafe(self._schedule)

    def _schedule(self) -> None:
        if self._timer is None:
            wait = max(0.0, self._last_change + PAUSE_SECONDS - self._loop.time())
            self._timer = self._loop.call_later(wait, self._wake_streams)

    def _wake_streams(self) -> None:
        self._timer, self._notified = None, False
        self._last_change = self._loop.time()
        self._read.clear()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
