"""Near-duplicates of a collection: starting the job that finds them, and reading its groups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.errors import TooLarge
from app.jobs.duplicates import KIND, write_codes
from app.jobs.group_file import GroupFile
from app.jobs.kind import Outcome, Progress
from app.jobs.queue import Jobs
from app.service.room import check_room, checking_room
from app.service.settings import Settings
from index import Filter, NotFound
from index.backend import Collection, Store

MAX_FILTER = 1 << 14
"""Largest filter, in bytes of JSON: lists of jobs have those of up to a thousand searches."""


class Duplicates:
    """Searches for near-duplicates; their state and results are those of their jobs."""

    def __init__(self, store: Store, jobs: Jobs) -> None:
        self._store = store
        self._jobs = jobs

    def start(
        self, name: str, radius: int, condition: dict[str, Any] | None, max_pairs: int
    ) -> str:
        """Queue a search among the items that match a filter; return the job's id.

        Raises
        ------
        NotFound
            There is no such collection.
        InvalidItems
            The filter cannot be read.
        TooLarge
            The filter has more than `MAX_FILTER` bytes.
        TooMany
            Too many jobs are queued or running.
        """
        self._store.get(name)
        if condition is not None:
            Filter(condition)
            if (size := len(json.dumps(condition))) > MAX_FILTER:
                raise TooLarge(
                    f"the filter of a search for duplicates has at most {MAX_FILTER} bytes of "
                    f"JSON, because the job shows it; got {size}"
                )
        request = {"collection": name, "radius": radius, "filter": condition}
        return self._jobs.add(KIND, request | {"max_pairs": max_pairs})

    def groups(self, job: str) -> GroupFile:
        """Return the groups that a job found.

        Raises
        ------
        NotFound
            There is no such job, or it is of another kind.
        Conflict
            It is not done.
        """
        kind = self._jobs.get(job)["kind"]
        if kind != KIND:
            raise NotFound(f"job {job!r} is of kind {kind}: only {KIND} have groups")
        return GroupFile(self._jobs.output_reader(job, KIND))


def export(
    store: Store, settings: Settings, request: dict[str, Any], folder: Path, progress: Progress
) -> None:
    """Write the codes that a job compares into its folder; raise Full if the disk has no room."""
    checked = checking_room(settings, progress)
    condition = request["filter"]
    where = None if condition is None else Filter(condition)

    def write(collection: Collection) -> None:
        batches = collection.code_batches(where, lambda: progress(0, 1, "applying the filter"))
        write_codes(batches, len(collection), folder, checked)

    store.use(request["collection"], write)


def check_result(settings: Settings, request: dict[str, Any], outcome: Outcome) -> Outcome:
    """Return the outcome; raise Full if the disk has no room for it."""
    check_room(settings, len(outcome.output or b""))
    return outcome
