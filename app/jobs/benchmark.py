"""Benchmarks as jobs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.benchmark.neighbours.protocol import NeighbourProtocol
from app.benchmark.report.render import render
from app.benchmark.rows import NEIGHBOURS, Row
from app.benchmark.run import run, to_the_end
from app.benchmark.splits import Protocol
from app.datasets.catalog import load_dataset
from app.jobs.collection_arrays import read_arrays
from app.jobs.kind import Outcome, Progress, Task


def request(
    source: dict[str, str],
    table: list[Row],
    protocol: Protocol | NeighbourProtocol,
    seeds: list[int],
) -> dict[str, Any]:
    """Return the request of a benchmark job as JSON.

    Parameters
    ----------
    source : dict
        `{"dataset": name}` or `{"collection": name}`.
    table : list of Row
        Methods and code lengths.
    protocol : Protocol or NeighbourProtocol
    seeds : list of int
    """
    if isinstance(protocol, NeighbourProtocol):
        numbers = {"protocol": NEIGHBOURS, **asdict(protocol)}
    else:
        numbers = {
            "protocol": protocol.name,
            "queries_per_class": protocol.queries_per_class,
            "labels_per_class": protocol.labels_per_class,
        }
    return {
        **source,
        **numbers,
        "rows": [[row.method, row.n_bits] for row in table],
        "seeds": seeds,
    }


def work(task: Task, progress: Progress) -> Outcome:
    """Run a benchmark; return its result, with the HTML report as the output.

    If it is interrupted, they have the rows that were measured until then.
    """
    request = task.request
    if "collection" in request:
        dataset = read_arrays(request["collection"], task.folder)
    else:
        dataset = load_dataset(request["dataset"], task.data_dir, images=True)
    table = [Row(method, n_bits) for method, n_bits in request["rows"]]
    seeds = request["seeds"]
    if request["protocol"] == NEIGHBOURS:
        # It loads Faiss, which no other benchmark needs.
        from app.benchmark.neighbours.run import run_neighbours

        of_neighbours = NeighbourProtocol(request["queries"], request["k"], request["distance"])
        result = run_neighbours(dataset, table, of_neighbours, seeds, progress)
    else:
        protocol = Protocol(
            request["protocol"], request["queries_per_class"], request["labels_per_class"]
        )
        result = run(dataset, table, protocol, seeds, progress)
    page = to_the_end(lambda: render(result, dataset).encode())
    return Outcome(result, page, partial="interrupted" in result)
