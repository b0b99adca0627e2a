"""Jobs, benchmarks, explanations and datasets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from bitcell_client.arguments import AnyJob, as_integer, as_integers, as_list, job_id
from bitcell_client.call import (
    NPY,
    Request,
    answer_as,
    call,
    read_nothing,
    read_text,
    without_none,
)
from bitcell_client.groups import DuplicateGroups, read_groups
from bitcell_client.results import Accepted, Dataset, Job


class JobCalls:
    """Calls about jobs and benchmarks, which are jobs too."""

    @call("GET", "/v1/jobs")
    def jobs(self, limit: int = 100) -> Request[list[Job]]:
        """Return the newest jobs, newest first, without their results."""
        return Request(answer_as(list[Job]), query={"limit": as_integer("limit", limit)})

    @call("GET", "/v1/jobs/{job}")
    def job(self, job: AnyJob) -> Request[Job]:
        """Return a job: its state and progress; its result or error when it has ended."""
        return Request(answer_as(Job), {"job": job_id(job)})

    @call("GET", "/v1/jobs/{job}/groups")
    def duplicate_groups(self, job: AnyJob) -> Request[DuplicateGroups]:
        """Return all groups that a search for duplicates found, the largest first."""
        return Request(read_groups, {"job": job_id(job)}, headers={"Accept": NPY})

    @call("DELETE", "/v1/jobs/{job}")
    def remove_job(self, job: AnyJob) -> Request[None]:
        """Cancel a job that is waiting or running; delete one that has ended."""
        return Request(read_nothing, {"job": job_id(job)})

    @call("GET", "/v1/datasets")
    def datasets(self) -> Request[list[str]]:
        """Return the names of the datasets for benchmarks and training."""
        return Request(answer_as(list[str]))

    @call("GET", "/v1/datasets/{dataset}")
    def dataset(self, dataset: str) -> Request[Dataset]:
        """Return the size and the time of a dataset."""
        return Request(answer_as(Dataset), {"dataset": dataset})

    @call("DELETE", "/v1/datasets/{dataset}")
    def delete_dataset(self, dataset: str) -> Request[None]:
        """Delete a dataset that no job uses."""
        return Request(read_nothing, {"dataset": dataset})

    @call("POST", "/v1/explanations")
    def start_explanation(
        self,
        *,
        dataset: str | None = None,
        collection: str | None = None,
        laws: Iterable[str] | None = None,
        encoder: str | None = None,
        items: int | None = None,
        seed: int | None = None,
    ) -> Request[Accepted]:
        """Start a job that measures what theory says about a dataset or a collection.

        What is None is left to the service's default: all laws, and an encoder that is trained.
        """
        body = {
            "dataset": dataset,
            "collection": collection,
            "laws": None if laws is None else as_list("laws", laws),
            "encoder": encoder,
            "items": as_integer("items", items),
            "seed": as_integer("seed", seed),
        }
        return Request(answer_as(Accepted), json=without_none(body))

    @call("GET", "/v1/explanations")
    def explanations(self) -> Request[list[Job]]:
        """Return all explanations, newest first, without their results."""
        return Request(answer_as(list[Job]))

    @call("GET", "/v1/explanations/{explanation}")
    def explanation(self, explanation: AnyJob) -> Request[Job]:
        """Return an explanation: its state and progress; the findings when it is done."""
        return Request(answer_as(Job), {"explanation": job_id(explanation)})

    @call("GET", "/v1/explanations/{explanation}/report")
    def explanation_report(self, explanation: AnyJob) -> Request[str]:
        """Return the report of an explanation: one HTML page with figures and plots."""
        return Request(read_text, {"explanation": job_id(explanation)})

    @call("POST", "/v1/benchmarks")
    def start_benchmark(
        self,
        methods: Iterable[str],
        bits: Iterable[int] | None = None,
        *,
        dataset: str | None = None,
        collection: str | None = None,
        protocol: str | None = None,
        seeds: Iterable[int] | None = None,
        queries_per_class: int | None = None,
        labels_per_class: int | None = None,
        queries: int | None = None,
        k: int | None = None,
        distance: Literal["euclidean", "cosine"] | None = None,
    ) -> Request[Accepted]:
        """Start a job that measures methods on a dataset, or on a collection's kept descriptors.

        What is None is left to the service's default. `queries`, `k` and `distance` are for the
        protocol `neighbours`, which needs no labels and measures the recall of the true neighbours.
        """
        body = {
            "methods": as_list("methods", methods),
            "bits": None if bits is None else as_integers("bits", bits),
            "dataset": dataset,
            "collection": collection,
            "protocol": protocol,
            "seeds": None if seeds is None else as_integers("seeds", seeds),
            "queries_per_class": as_integer("queries_per_class", queries_per_class),
            "labels_per_class": as_integer("labels_per_class", labels_per_class),
            "queries": as_integer("queries", queries),
            "k": as_integer("k", k),
            "distance": distance,
        }
        return Request(answer_as(Accepted), json=without_none(body))

    @call("GET", "/v1/benchmarks")
    def benchmarks(self) -> Request[list[Job]]:
        """Return all benchmarks, newest first, without their results."""
        return Request(answer_as(list[Job]))

    @call("GET", "/v1/benchmarks/{benchmark}")
    def benchmark(self, benchmark: AnyJob) -> Request[Job]:
        """Return a benchmark: its state and progress; its table when it is done."""
        return Request(answer_as(Job), {"benchmark": job_id(benchmark)})

    @call("GET", "/v1/benchmarks/{benchmark}/report")
    def report(self, benchmark: AnyJob) -> Request[str]:
        """Return the report of a benchmark: one HTML page with the table and plots."""
        return Request(read_text, {"benchmark": job_id(benchmark)})
