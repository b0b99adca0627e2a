"""Starting benchmarks as jobs."""

from __future__ import annotations

from app.benchmark.neighbours.protocol import NeighbourProtocol
from app.benchmark.rows import Row
from app.benchmark.splits import Protocol
from app.jobs import benchmark
from app.jobs.queue import Jobs
from app.service.collections.collections import Collections
from app.service.collections.kept_descriptors import kept_descriptors
from app.service.files.dataset_files import Datasets
from hashing import InvalidInput


class Benchmarks:
    """The benchmarks of a service; their state and results are those of their jobs."""

    def __init__(self, datasets: Datasets, collections: Collections, jobs: Jobs) -> None:
        self._datasets = datasets
        self._collections = collections
        self._jobs = jobs

    def start(
        self,
        table: list[Row],
        protocol: Protocol | NeighbourProtocol,
        seeds: list[int],
        *,
        dataset: str | None = None,
        collection: str | None = None,
    ) -> str:
        """Queue a benchmark of a named dataset or of a collection; return the job's id."""
        if collection is not None:
            _, labelled = kept_descriptors(self._collections.get(collection))
            if not labelled and isinstance(protocol, Protocol):
                raise InvalidInput(
                    f"collection {collection!r} has no labels, which a benchmark needs"
                )
            return self._add({"collection": collection}, table, protocol, seeds)
        with self._datasets.using(dataset or ""):
            return self._add({"dataset": dataset or ""}, table, protocol, seeds)

    def _add(
        self,
        source: dict[str, str],
        table: list[Row],
        protocol: Protocol | NeighbourProtocol,
        seeds: list[int],
    ) -> str:
        return self._jobs.add("benchmark", benchmark.request(source, table, protocol, seeds))
