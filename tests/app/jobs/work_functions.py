"""What the jobs of tests do in their processes."""

from __future__ import annotations

import os
import signal
import sys
from threading import Event

import threadpoolctl

from app.jobs.kind import Outcome, Progress, Task


def describe_process(task: Task, progress: Progress) -> Outcome:
    """Return the properties of the process, and the material reversed."""
    import numpy as np

    np.ones((2, 2)) @ np.ones((2, 2))  # Load BLAS.
    heavy = {"fastapi", "faiss", "torch", "structlog"} & set(sys.modules)
    return Outcome(
        {
            "nice": os.nice(0),
            "blas": [pool["num_threads"] for pool in threadpoolctl.threadpool_info()],
            "heavy": sorted(heavy),
            "ignored": [
                signal.getsignal(number) == signal.SIG_IGN
                for number in (signal.SIGINT, signal.SIGTERM)
            ],
            "request": task.request,
        },
        (task.material or b"")[::-1],
    )


def never_end(task: Task, progress: Progress) -> Outcome:
    progress(1, 4, str(os.getpid()))
    Event().wait()
    raise AssertionError


def return_on_interrupt(task: Task, progress: Progress) -> Outcome:
    try:
        never_end(task, progress)
    except KeyboardInterrupt:
        return Outcome({"rows": 1}, b"half a report", partial=True)
    raise AssertionError


def ignore_interrupts(task: Task, progress: Progress) -> Outcome:
    step = 1
    while True:
        try:
            progress(step, 4, str(os.getpid()))
            Event().wait()
        except KeyboardInterrupt:
            step = 2


def three_steps(task: Task, progress: Progress) -> Outcome:
    for i in range(3):
        progress(i, 3, f"step {i}")
    return Outcome({})


def refuse(task: Task, progress: Progress) -> Outcome:
    raise ValueError("there is a reason")


def die(task: Task, progress: Progress) -> Outcome:
    os._exit(7)


def read_prepared_file(task: Task, progress: Progress) -> Outcome:
    return Outcome({}, (task.material or b"") + (task.folder / "prepared").read_bytes())


def report_until_stopped(task: Task, progress: Progress) -> Outcome:
    while True:
        progress(1, 2, str(os.getpid()))
        os.sched_yield()
