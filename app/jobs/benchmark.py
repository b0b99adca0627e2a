"""A benchmark as a job of the service."""

from __future__ import annotations

from typing import Any

from app.benchmark.measure import Row
from app.benchmark.report.render import render
from app.benchmark.run import run
from app.benchmark.splits import Protocol
from app.datasets.catalog import load_dataset
from app.jobs import collection_files
from app.jobs.kind import Outcome, Progress, Task


def request(
    source: dict[str, str], table: list[Row], protocol: Protocol, seeds: list[int]
) -> dict[str, Any]:
    """What is asked for, as JSON; the source is the name of a dataset or of a collection."""
    return source | {
        "protocol": protocol.name,
        "queries_per_class": protocol.queries_per_class,
        "labels_per_class": protocol.labels_per_class,
        "rows": [[row.method, row.n_bits] for row in table],
        "seeds": seeds,
    }


def work(task: Task, progress: Progress) -> Outcome:
    """The result, and the report as its output."""
    asked = task.request
    if "collection" in asked:
        loaded = collection_files.read(asked["collection"], task.folder)
    else:
        loaded = load_dataset(asked["dataset"], task.data_dir, images=True)
    table = [Row(method, n_bits) for method, n_bits in asked["rows"]]
    protocol = Protocol(asked["protocol"], asked["queries_per_class"], asked["labels_per_class"])
    result = run(loaded, table, protocol, asked["seeds"], progress)
    return Outcome(result, render(result, loaded).encode())
