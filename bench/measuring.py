"""How time and memory are measured."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def seconds(call: Callable[[], object], rounds: int = 1) -> float:
    """Return the seconds of a call, the best of `rounds`."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def in_turn(
    calls: list[Callable[[int], Any]], count: int, run: int = 1, warm_up: int = 5
) -> NDArray[np.float64]:
    """Return the seconds of each call, (count, len(calls)), taken in turn.

    Taking turns exposes all of them to the same state of the machine. Each call gets its number,
    from 0.

    Parameters
    ----------
    calls : list of callable
    count : int
        Measurements of each.
    run : int
        Consecutive measurements of one call before the next one has its turn. A client that sends
        query after query finds its data in the processor's caches; other calls in between would
        evict it.
    warm_up : int
        Unmeasured calls that come first, at least `run` unless it is 0; their numbers are negative.
    """
    measured = np.empty((count, len(calls)))
    start_at = -max(warm_up, run) if warm_up else 0
    for first in range(start_at, count, run):
        for j, call in enumerate(calls):
            for i in range(first, min(first + run, count)):
                start = time.perf_counter()
                call(i)
                if i >= 0:
                    measured[i, j] = time.perf_counter() - start
    return measured


def resident_mb(pid: int | str = "self") -> float:
    """Return the resident memory of a process in MB (2^20 bytes)."""
    return _status_mb(pid, "VmRSS")


def peak_resident_mb() -> float:
    """Return the most resident memory that this process has had, in MB (2^20 bytes).

    Unlike `ru_maxrss`, it leaves out what the process that started this one had.
    """
    return _status_mb("self", "VmHWM")


def _status_mb(pid: int | str, name: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(rf"{name}:\s+(\d+) kB", status)
    if match is None:
        raise RuntimeError(f"/proc/{pid}/status has no {name}: has the process ended?")
    return int(match[1]) / 1024
