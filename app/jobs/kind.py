"""What defines a kind of job: how it runs, and what happens before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hashing.progress import Progress as Progress


@dataclass(frozen=True)
class Task:
    """The input of one job.

    Attributes
    ----------
    data_dir : Path
        Where datasets are read from. Only the service itself opens the database in it.
    folder : Path
        A folder for this job alone, with what `Kind.prepare` wrote. It is deleted when the job
        ends.
    request : dict
        The request, as JSON.
    material : bytes or None
        Data that came with the request.
    """

    data_dir: Path
    folder: Path
    request: dict[str, Any]
    material: bytes | None


@dataclass(frozen=True)
class Outcome:
    """The output of one job: JSON to show, and bytes.

    It is `partial` if the job was interrupted: see `Kind.partial`.
    """

    result: dict[str, Any]
    output: bytes | None = None
    partial: bool = False


def _prepare_nothing(request: dict[str, Any], folder: Path, progress: Progress) -> None:
    pass


def _keep_outcome(request: dict[str, Any], outcome: Outcome) -> Outcome:
    return outcome


@dataclass(frozen=True)
class Kind:
    """A kind of job.

    Attributes
    ----------
    work : callable
        (task, progress) to outcome. It runs in a process of its own, which imports it, so it must
        be a function of a module. A ValueError, OSError or MemoryError becomes the error of the
        job.
    inside : bool
        Whether `work` runs in a thread of the service instead, because it changes the database.
        `progress` raises to end such work, which must then leave nothing half done.
    partial : bool
        Whether `work` can be interrupted: it gets a KeyboardInterrupt when the job is cancelled,
        and may then return an outcome with what it has so far. Other processes are killed.
    prepare : callable
        (request, folder, progress), in a thread of the service before the process starts. It
        writes what the job needs from the database into the folder of the job. It must call
        `progress` several times a second, which raises when the job is cancelled or the service
        stops.
    finish : callable
        (request, outcome) to the outcome that is kept, in a thread of the service when the process
        has ended. It may run twice for one job, if the service is killed before the job is
        recorded as done, or if it raised because a server did not answer.
    """

    work: Callable[[Task, Progress], Outcome]
    inside: bool = False
    partial: bool = False
    prepare: Callable[[dict[str, Any], Path, Progress], None] = _prepare_nothing
    finish: Callable[[dict[str, Any], Outcome], Outcome] = _keep_outcome
