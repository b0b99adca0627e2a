"""Jobs: their events, and waiting until they end."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from typing import Self

import httpx2

from bitcell_client.arguments import AnyJob, job_id
from bitcell_client.connection import fill_path, unexpected_answer
from bitcell_client.decode import from_json
from bitcell_client.errors import JobFailed
from bitcell_client.results import Job

EVENTS = "/v1/jobs/{job}/events"
_ENDED = ("done", "failed", "cancelled")
_COLUMNS = 79
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


def events_path(job: AnyJob) -> str:
    """Return the path of a job's events."""
    return fill_path(EVENTS, {"job": job_id(job)})


def event(request: httpx2.Request, line: str) -> Job | None:
    """Return the job in a line of an event stream; None where the line has none."""
    if not line.startswith("data: "):
        return None
    data = line.removeprefix("data: ")
    try:
        return from_json(Job, data)
    except ValueError as error:
        raise unexpected_answer(request, data.encode(), error) from error


def has_ended(job: Job) -> bool:
    """Return whether a job has ended; raise `JobFailed` if it ended without a result."""
    if job.state in _ENDED and job.state != "done":
        raise JobFailed(job)
    return job.state == "done"


class ProgressLine:
    """One line on stderr that shows how far a job is, and is gone when the block ends.

    Parameters
    ----------
    is_shown : bool, optional
        By default the line is shown where somebody sees it: in a terminal or a notebook.
    """

    def __init__(self, is_shown: bool | None = None) -> None:
        if is_shown is None:
            is_shown = sys.stderr.isatty() or "ipykernel" in sys.modules
        self._is_shown = is_shown
        self._text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._text:
            self._write("")
            sys.stderr.write("\r")
            sys.stderr.flush()

    def show(self, job: Job) -> None:
        """Write the state of a job over that of before."""
        parts = [f"{job.kind}: {job.state}"]
        if job.progress is not None:
            parts += [f"{job.progress.done} of {job.progress.of}", job.progress.now]
            if job.progress.seconds_left is not None:
                parts.append(f"about {job.progress.seconds_left:.0f} s left")
        self._write(", ".join(parts)[:_COLUMNS])

    def _write(self, text: str) -> None:
        if self._is_shown and text != self._text:
            sys.stderr.write(f"\r{text:{len(self._text)}}")
            sys.stderr.flush()
            self._text = text


def pauses(timeout: float | None) -> Iterator[float]:
    """Yield the seconds to wait between looks at a job, longer and longer.

    Together they take `timeout` seconds; the last one is 0, for a last look when the time is up.
    """
    end = math.inf if timeout is None else time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while (left := end - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(1.5 * pause, _LONGEST_PAUSE)
    yield 0.0
