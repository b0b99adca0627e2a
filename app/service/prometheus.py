"""The metrics of a service, for Prometheus."""

from __future__ import annotations

import shutil
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from itertools import accumulate
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from app.jobs.queue import Jobs
from app.service.drift.watch import Drift
from app.service.encoder_store import EncoderStore
from app.service.state.opening import Opened
from index import NotFound, ServerError, Unavailable, searches_by_path

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_JOB_SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600)
_DISTANCES = (0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)
_TIES = (1, 2, 5, 10, 20, 50, 100, 1000, 10_000)
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

# Otherwise every series has a second one with the time at which it was made.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one service; Prometheus scrapes `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "bitcell_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "bitcell_request_seconds",
            "Time from the head of a request to the end of its answer",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "bitcell_requests_in_flight", "Requests in progress", registry=self.registry
        )
        self._job_seconds = Histogram(
            "bitcell_job_seconds",
            "Running time of ended jobs",
            ["kind", "state"],
            buckets=_JOB_SECONDS,
            registry=self.registry,
        )
        self.nearest = BatchHistogram(
            "bitcell_query_nearest_distance",
            "Hamming distance of the nearest neighbour of each query",
            _DISTANCES,
        )
        self.ties = BatchHistogram(
            "bitcell_query_ties",
            "Neighbours in each answer at the distance of its last one",
            _TIES,
        )
        self.registry.register(self.nearest)
        self.registry.register(self.ties)
        build = Gauge("bitcell_build_info", "Always 1", ["version"], registry=self.registry)
        build.labels(version("bitcell")).set(1)
        ProcessCollector(registry=self.registry)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, status).inc()
        self._request_seconds.labels(method, route).observe(seconds)

    def count_job(self, kind: str, state: str, seconds: float) -> None:
        """Count an ended job."""
        self._job_seconds.labels(kind, state).observe(seconds)

    def count_answers(self, collection: str, answers: Sequence[Sequence[Any]]) -> None:
        """Count the answers to queries: the neighbours of each, in ascending distance."""
        answers = [neighbours for neighbours in answers if neighbours]
        distance = attrgetter("distance")
        self.nearest.add(collection, [neighbours[0].distance for neighbours in answers])
        self.ties.add(
            collection,
            [
                len(neighbours) - bisect_left(neighbours, neighbours[-1].distance, key=distance)
                for neighbours in answers
            ],
        )

    def remove_collection(self, collection: str) -> None:
        """Remove the metrics of a collection."""
        self.nearest.remove(collection)
        self.ties.remove(collection)

    def watch(self, holdings: Holdings) -> None:
        """Report what a service holds whenever Prometheus scrapes."""
        self.registry.register(holdings)


class BatchHistogram:
    """A histogram with one series per collection that takes a batch of values at a time."""

    def __init__(self, name: str, help_text: str, bounds: Iterable[float]) -> None:
        self._name, self._help = name, help_text
        self._bounds = [float(bound) for bound in bounds]
        self._lock = Lock()
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def add(self, collection: str, values: Sequence[float]) -> None:
        """Count values of a collection."""
        # Batches mostly have one value, for which numpy takes ten times as long.
        places = [bisect_left(self._bounds, value) for value in values]
        with self._lock:
            counts = self._counts.setdefault(collection, [0] * (len(self._bounds) + 1))
            for place in places:
                counts[place] += 1
            self._sums[collection] = self._sums.get(collection, 0) + sum(values)

    def remove(self, collection: str) -> None:
        """Remove the series of a collection."""
        with self._lock:
            self._counts.pop(collection, None)
            self._sums.pop(collection, None)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; `CollectorRegistry` calls this."""
        family = HistogramMetricFamily(self._name, self._help, labels=["collection"])
        with self._lock:
            for collection, counts in self._counts.items():
                bounds = [*map(str, self._bounds), "+Inf"]
                buckets: Any = list(zip(bounds, accumulate(counts), strict=True))
                family.add_metric([collection], buckets, self._sums[collection])
        yield family


class Holdings:
    """What a service holds: items, encoders, jobs and bytes on disk."""

    def __init__(
        self, found: Opened, encoders: EncoderStore, jobs: Jobs, drift: Drift, data_dir: Path
    ) -> None:
        self._found, self._store = found, found.store
        self._encoders = encoders
        self._jobs = jobs
        self._drift = drift
        self._data_dir = data_dir

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; `CollectorRegistry` calls this.

        What a server holds that does not answer, or answers with an error, is left out.
        """
        for part in (self._items, self._alarms, self._n_encoders, self._job_states):
            with suppress(Unavailable, ServerError):
                yield part()
        searches = CounterMetricFamily("bitcell_searches", "Queries searched", labels=["path"])
        for path, count in searches_by_path().items():
            searches.add_metric([path], count)
        yield searches
        free = shutil.disk_usage(self._data_dir).free
        yield GaugeMetricFamily("bitcell_disk_free_bytes", "Free on the disk of the data", free)
        if self._found.record is not None:
            size = self._found.record.path.stat().st_size
            help_text = "Size of the database file in bytes"
            yield GaugeMetricFamily("bitcell_record_bytes", help_text, size)
        up = all(state.is_reached for state in self._found.servers)
        yield GaugeMetricFamily("bitcell_database_up", "Whether the database answered", int(up))

    def _items(self) -> Metric:
        items = GaugeMetricFamily("bitcell_items", "Items stored", labels=["collection"])
        for collection in self._store.list():
            with suppress(NotFound):  # Another replica has dropped it since.
                items.add_metric([collection.name], len(collection))
        return items

    def _alarms(self) -> Metric:
        drift = GaugeMetricFamily(
            "bitcell_drift_alarms", "Windows of new items that differ", labels=["collection"]
        )
        for name, count in self._drift.alarms().items():
            drift.add_metric([name], count)
        return drift

    def _n_encoders(self) -> Metric:
        return GaugeMetricFamily("bitcell_encoders", "Encoders stored", len(self._encoders.list()))

    def _job_states(self) -> Metric:
        jobs = GaugeMetricFamily("bitcell_jobs", "Jobs on record", labels=["kind", "state"])
        for kind, state, count in self._jobs.counts():
            jobs.add_metric([kind, state], count)
        return jobs
