"""Run a benchmark without labels: every row with every seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.benchmark.averages import confidence_interval
from app.benchmark.neighbours.measure import Recall, measure_recall
from app.benchmark.neighbours.protocol import (
    NeighbourProtocol,
    Task,
    distance_of,
    n_queries_of,
    rerank_of,
    uses_given,
)
from app.benchmark.rows import NEIGHBOURS, Row
from app.benchmark.run import measure_all, to_the_end
from app.datasets.dataset import Dataset
from hashing import InvalidInput
from hashing.progress import Progress
from hashing.validation import check_int


def run_neighbours(
    dataset: Dataset,
    rows: Sequence[Row],
    protocol: NeighbourProtocol,
    seeds: Sequence[int] = (0,),
    progress: Progress = lambda done, total, description: None,
) -> dict[str, Any]:
    """Measure the recall of every row with every seed.

    A seed draws the queries, unless the dataset has its own, and the random state of the methods.

    Returns
    -------
    dict
        JSON, as `app.benchmark.run.run` returns it, with other figures: `recall`, the mean over
        queries and seeds of the share of the k true neighbours that are among the first k, with
        `recall_spread`, `recall_interval` and `recalls` as for `map`; `recall_rerank_N`, the same
        if the first N are ranked by their descriptors; `ranking`, `bytes_per_item` and
        `queries_per_second` of `Recall`. Equal distances count as the mean over all orders.

    Raises
    ------
    InvalidInput
        There is no seed, or a negative one; the protocol does not fit the dataset, or no row could
        be measured.
    KeyboardInterrupt
        The benchmark was interrupted before the first row was measured.
    """
    if not seeds:
        raise InvalidInput("a benchmark needs at least one seed")
    for seed in seeds:
        check_int("seed", seed, 0, 2**63 - 1)
    seeds = list(dict.fromkeys(seeds))
    n_queries = n_queries_of(dataset, protocol)
    rerank = rerank_of(protocol)

    def prepare(i: int) -> Callable[[Row], Recall]:
        task = Task(dataset, protocol, seeds[i])
        return lambda row: measure_recall(row, task)

    measured, errors, missing = measure_all(rows, seeds, prepare, progress)
    return {
        "protocol": {
            "name": NEIGHBOURS,
            "seeds": seeds,
            "k": protocol.k,
            "distance": distance_of(dataset, protocol),
            "rerank": rerank,
            "given_queries": dataset.given is not None,
            "given_neighbours": uses_given(dataset, protocol),
        },
        "dataset": {
            "name": dataset.name,
            "items": len(dataset),
            "dimension": dataset.descriptors.shape[1],
            "queries": n_queries,
            "database": len(dataset) - (0 if dataset.given is not None else n_queries),
        },
        "results": to_the_end(
            lambda: [
                {"method": row.method, "n_bits": row.n_bits}
                | ({"error": errors[row]} if row in errors else _figures(measured[row], rerank))
                for row in rows
            ]
        ),
        **({} if missing is None else {"interrupted": missing}),
    }


def _figures(measured: list[Recall], rerank: list[int]) -> dict[str, Any]:
    values = [one.recalls[:, 0] for one in measured]
    recalls = [float(each.mean()) for each in values]
    low, high = confidence_interval(values, [np.zeros(len(each), np.int64) for each in values])
    return {
        "recall": float(np.mean(recalls)),
        "recall_spread": float(np.std(recalls, ddof=1)) if len(recalls) > 1 else None,
        "recall_interval": [max(0.0, low), min(1.0, high)],
        "recalls": recalls,
        **{
            f"recall_rerank_{n}": float(np.mean([one.recalls[:, i].mean() for one in measured]))
            for i, n in enumerate(rerank, 1)
        },
        "ranking": measured[0].ranking,
        "fit_seconds": float(np.mean([one.fit_seconds for one in measured])),
        "encode_seconds": float(np.mean([one.encode_seconds for one in measured])),
        "bytes_per_item": measured[0].bytes_per_item,
        "queries_per_second": float(np.mean([one.queries_per_second for one in measured])),
    }
