"""Starting recommendations as jobs, and making what they recommend."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from app.errors import Conflict
from app.jobs import recommendation
from app.jobs.queue import Jobs
from app.jobs.recommendation import KIND
from app.recommend.goal import Goal
from app.recommend.pool import Pool
from app.service.collections.collections import Collections
from app.service.collections.kept_descriptors import kept_descriptors
from app.service.encoders import Encoders
from app.service.files.dataset_files import Datasets
from hashing import HASHERS, InvalidInput
from index import AlreadyExists, NotFound
from index.backend import Collection


class Recommendations:
    """The recommendations of a service; their state and results are those of their jobs."""

    def __init__(
        self, datasets: Datasets, collections: Collections, encoders: Encoders, jobs: Jobs
    ) -> None:
        self._datasets = datasets
        self._collections = collections
        self._encoders = encoders
        self._jobs = jobs

    def start(
        self,
        goal: Goal,
        *,
        dataset: str | None = None,
        collection: str | None = None,
        methods: Sequence[str] | None = None,
        max_bits: int,
        seconds: float | None,
        items: int | None,
        seed: int,
    ) -> str:
        """Queue a recommendation for a named dataset or a collection; return the job's id."""
        chosen = None if methods is None else list(methods)
        uses_labels = goal.recall is None
        for name in Pool(chosen, max_bits, uses_labels=uses_labels).methods:
            if HASHERS[name].needs_torch and importlib.util.find_spec("torch") is None:
                raise InvalidInput(f"{name} is trained with torch, which is not installed here")

        def add(source: dict[str, str]) -> str:
            asked = recommendation.request(
                source,
                goal,
                methods=chosen,
                max_bits=max_bits,
                seconds=seconds,
                items=items,
                seed=seed,
            )
            return self._jobs.add(KIND, asked)

        if collection is None:
            with self._datasets.using(dataset or ""):
                return add({"dataset": dataset or ""})
        _, labelled = kept_descriptors(self._collections.get(collection))
        if goal.within is not None and not labelled:
            raise InvalidInput(
                f"collection {collection!r} has no labels, which the goal within needs; the goal "
                "recall needs none"
            )
        return add({"collection": collection})

    def make(self, job: str, name: str) -> Collection:
        """Create the recommended encoder, and an empty collection for it, both under a new name.

        Raise Conflict if the job has not ended or recommends nothing; nothing is made then.
        """
        found: dict[str, Any] = self._jobs.get(job, KIND)
        if found["state"] != "done":
            raise Conflict(f"{KIND} {job!r} is {found['state']}, not done")
        recommended = found["result"]["recommended"]
        if recommended is None:
            raise Conflict(
                f"{KIND} {job!r} recommends nothing, because no candidate reaches its goal"
            )
        self._check_free(name)
        self._encoders.upload(name, self._jobs.output(job, KIND))
        try:
            settings = recommended["collection"]
            return self._collections.create(
                name,
                name,
                settings["keep_descriptors"],
                ranking=settings["ranking"],
                metric=settings["metric"],
            )
        except BaseException:
            self._encoders.drop(name)
            raise

    def _check_free(self, name: str) -> None:
        """Raise AlreadyExists if there is a collection of this name, before anything is made."""
        try:
            self._collections.get(name)
        except NotFound:
            return
        raise AlreadyExists(f"there is already a collection {name!r}")
