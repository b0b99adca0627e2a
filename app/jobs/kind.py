"""What a kind of job is: how it is worked on, and what becomes of the outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Progress = Callable[[int, int, str], None]
"""Called with the steps done, the steps in all, and what runs now."""


@dataclass(frozen=True)
class Task:
    """What the process of a job is given.

    Attributes
    ----------
    data_dir : Path
        To read datasets from; the record in it is the service's alone.
    request : dict
        What was asked for: JSON, kept in the record.
    material : bytes or None
        What goes along with the request, as `Kind.prepare` made it.
    """

    data_dir: Path
    request: dict[str, Any]
    material: bytes | None


@dataclass(frozen=True)
class Outcome:
    """What the process of a job gives back: JSON to be shown, and bytes."""

    result: dict[str, Any]
    output: bytes | None = None


def _as_it_is(request: dict[str, Any], material: bytes | None) -> bytes | None:
    return material


def _kept(request: dict[str, Any], outcome: Outcome) -> Outcome:
    return outcome


@dataclass(frozen=True)
class Kind:
    """A kind of job.

    Attributes
    ----------
    work : callable
        (task, progress) to outcome, in a process of its own: a function of a module, which that
        process imports. A ValueError or MemoryError of it is the reason of the failure.
    prepare : callable
        (request, material as it was accepted) to the material that is worked on, in the service,
        just before the process starts: for what is read from the record.
    finish : callable
        (request, outcome) to what is kept of it, in the service, when the process is done. What
        it does may be done a second time, where the service is killed before the job is noted as
        done.
    """

    work: Callable[[Task, Progress], Outcome]
    prepare: Callable[[dict[str, Any], bytes | None], bytes | None] = _as_it_is
    finish: Callable[[dict[str, Any], Outcome], Outcome] = _kept
