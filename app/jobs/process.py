"""The process of one job: it loads neither FastAPI nor Faiss."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any

from app.jobs.kind import Outcome, Task

NICE = 19
Message = dict[str, Any] | Outcome | str
"""Progress, what came out, or the reason why nothing did."""


def main(out: Connection, work: Any, task: Task, threads: int) -> None:
    """Work on a task; progress and the outcome go back through `out`."""
    _stay_behind(threads)

    def progress(done: int, of: int, now: str) -> None:
        out.send({"done": done, "of": of, "now": now})

    try:
        message: Message = work(task, progress)
    except BrokenPipeError:
        return  # The service is gone, and nobody waits for this.
    except (ValueError, MemoryError) as error:
        message = str(error) or type(error).__name__
    with suppress(BrokenPipeError):
        out.send(message)


def _stay_behind(threads: int) -> None:
    """Give way to the service, and end with it."""
    # Signals to the whole group are for the service: it ends its jobs itself.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    Thread(target=_end_with_the_service, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICE)
    # For torch, which is not loaded yet; BLAS is.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)


def _end_with_the_service() -> None:
    service = parent_process()
    if service is not None:
        wait([service.sentinel])
        os._exit(1)
