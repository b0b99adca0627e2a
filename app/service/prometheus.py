"""What Prometheus is told."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter
from threading import Lock
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily, Metric

if TYPE_CHECKING:
    from app.service.service import Service

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_JOB_SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600)
_DISTANCES = (0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)
_TIES = (1, 2, 5, 10, 20, 50, 100, 1000, 10_000)
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Metrics:
    """All metrics of one service; `registry` is what is scraped."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "bitcell_requests",
            "Requests that were answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "bitcell_request_seconds",
            "From the request's head to the end of its answer",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "bitcell_requests_in_flight", "Requests being worked on", registry=self.registry
        )
        self._job_seconds = Histogram(
            "bitcell_job_seconds",
            "Running time of jobs that have ended",
            ["kind", "state"],
            buckets=_JOB_SECONDS,
            registry=self.registry,
        )
        self.nearest = Counted(
            "bitcell_query_nearest_distance",
            "Hamming distance of the first neighbour of each query",
            _DISTANCES,
        )
        self.ties = Counted(
            "bitcell_query_ties",
            "Neighbours in each answer that are as far as its last one",
            _TIES,
        )
        self.registry.register(self.nearest)
        self.registry.register(self.ties)
        ProcessCollector(registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, status).inc()
        self._request_seconds.labels(method, route).observe(seconds)

    def job(self, kind: str, state: str, seconds: float) -> None:
        """A job has ended."""
        self._job_seconds.labels(kind, state).observe(seconds)

    def answers(self, collection: str, found: Sequence[Sequence[Any]]) -> None:
        """Queries of a collection were answered, each with neighbours, ascending by distance."""
        some = [near for near in found if near]
        distance = attrgetter("distance")
        self.nearest.add(collection, [near[0].distance for near in some])
        self.ties.add(
            collection,
            [len(near) - bisect_left(near, near[-1].distance, key=distance) for near in some],
        )

    def forget(self, collection: str) -> None:
        """Drop the figures of a collection."""
        self.nearest.forget(collection)
        self.ties.forget(collection)

    def watch(self, service: Service) -> None:
        """Tell what a service holds, as it is when it is asked."""
        self.registry.register(_Holdings(service))
        service.jobs.on_end = self.job


class Counted:
    """A histogram by collection that takes a batch at a time."""

    def __init__(self, name: str, help_text: str, bounds: Iterable[float]) -> None:
        self._name, self._help = name, help_text
        self._bounds = [float(bound) for bound in bounds]
        self._lock = Lock()
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def add(self, collection: str, values: Sequence[float]) -> None:
        """Count values of a collection."""
        # Most often there is one value, for which numpy takes ten times as long.
        places = [bisect_left(self._bounds, value) for value in values]
        with self._lock:
            counts = self._counts.setdefault(collection, [0] * (len(self._bounds) + 1))
            for place in places:
                counts[place] += 1
            self._sums[collection] = self._sums.get(collection, 0) + sum(values)

    def forget(self, collection: str) -> None:
        """Drop the figures of a collection."""
        with self._lock:
            self._counts.pop(collection, None)
            self._sums.pop(collection, None)

    def collect(self) -> Iterator[Metric]:
        """Asked for by the registry."""
        family = HistogramMetricFamily(self._name, self._help, labels=["collection"])
        with self._lock:
            for collection, counts in self._counts.items():
                bounds = [*map(str, self._bounds), "+Inf"]
                buckets: Any = list(zip(bounds, accumulate(counts), strict=True))
                family.add_metric([collection], buckets, self._sums[collection])
        yield family


class _Holdings:
    """What a service holds and has to do."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Asked for by the registry."""
        service = self._service
        items = GaugeMetricFamily("bitcell_items", "Items held", labels=["collection"])
        for collection in service.store.list():
            items.add_metric([collection.name], len(collection))
        yield items
        yield GaugeMetricFamily("bitcell_encoders", "Encoders held", len(service.encoders.list()))
        jobs = GaugeMetricFamily("bitcell_jobs", "Jobs in the record", labels=["kind", "state"])
        for kind, state, count in service.jobs.counts():
            jobs.add_metric([kind, state], count)
        yield jobs
        size = service.database.path.stat().st_size
        yield GaugeMetricFamily("bitcell_record_bytes", "Size of the record on disk", size)
