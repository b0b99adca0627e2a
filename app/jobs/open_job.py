"""A job that has not ended, as the queue holds it in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from app.jobs.process import JobProcess


def first_step(step: str) -> dict[str, Any]:
    """Return the progress of a job that has not begun."""
    return {"done": 0, "of": 1, "now": step, "seconds_left": None}


@dataclass
class OpenJob:
    """What is known of a job that has not ended, apart from the database."""

    id: str
    kind: str
    request: dict[str, Any]
    progress: dict[str, Any] = field(default_factory=lambda: first_step("queued"))
    started: float | None = None
    """When the job started, by a clock that nobody sets."""
    process: JobProcess | None = None
    cancelled: bool = False
    cancels: int = 0
    """How often another replica has cancelled the job."""
    interrupted: Event = field(default_factory=Event)
    """Set to end a wait: the job is cancelled or the service stops."""

    def start(self) -> None:
        """Note that the job runs from now on."""
        self.started = time.monotonic()
        self.progress = first_step("starting")

    def postpone(self, reason: str) -> None:
        """Note that the job no longer runs, but will be started again."""
        self.started = self.process = None
        self.progress = first_step(reason)

    def note_progress(self, done: int, of: int, now: str) -> None:
        """Note progress. The time left follows from the mean duration of the steps so far."""
        seconds_left = None
        if self.started is not None and done:
            seconds_left = round((time.monotonic() - self.started) / done * (of - done), 1)
        self.progress = {"done": done, "of": of, "now": now, "seconds_left": seconds_left}

    def seconds(self) -> float:
        """Return how long the job has been running, 0 if it has not started."""
        return 0.0 if self.started is None else time.monotonic() - self.started
