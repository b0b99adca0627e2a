"""What a kind of job is: how it is worked on, and what becomes of the outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hashing.progress import Progress as Progress


@dataclass(frozen=True)
class Task:
    """What the process of a job is given.

    Attributes
    ----------
    data_dir : Path
        To read datasets from; the record in it is the service's alone.
    folder : Path
        Of this job alone, with what `Kind.prepare` wrote there; it goes when the process ends.
    request : dict
        What was asked for: JSON, kept in the record.
    material : bytes or None
        What came along with the request.
    """

    data_dir: Path
    folder: Path
    request: dict[str, Any]
    material: bytes | None


@dataclass(frozen=True)
class Outcome:
    """What the process of a job gives back: JSON to be shown, and bytes."""

    result: dict[str, Any]
    output: bytes | None = None


def _nothing(request: dict[str, Any], folder: Path) -> None:
    pass


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
    inside : bool
        Whether it is worked on in a thread of the service instead, for what changes the record.
        Such work leaves no half of itself when `progress` raises, which ends it.
    prepare : callable
        (request, folder), in the service, just before the process starts: writes what is to be
        read from the record into the folder of the job.
    finish : callable
        (request, outcome) to what is kept of it, in the service, when the process is done. What
        it does may be done a second time, where the service is killed before the job is noted as
        done.
    """

    work: Callable[[Task, Progress], Outcome]
    inside: bool = False
    prepare: Callable[[dict[str, Any], Path], None] = _nothing
    finish: Callable[[dict[str, Any], Outcome], Outcome] = _kept
