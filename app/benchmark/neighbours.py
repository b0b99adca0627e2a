"""Benchmarks without labels: how many of the true neighbours are found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.benchmark.averages import confidence_interval
from app.benchmark.classifier import OneHotClassifier
from app.benchmark.rank import (
    Positions,
    cosine_distances,
    euclidean_distances,
    nearest,
    rank_by_neighbours,
    rank_codes,
)
from app.benchmark.rows import CLASSIFIER, COSINE, RAW, Row
from app.benchmark.run import measure_all, to_the_end
from app.benchmark.tied_rankings import Reals, TiedRankings
from app.datasets.dataset import Dataset
from bitcodes import code_size
from hashing import Hasher, InvalidInput, make_hasher
from hashing.progress import Progress
from hashing.validation import check_int

NEIGHBOURS = "neighbours"
DISTANCES = {"euclidean": euclidean_distances, "cosine": cosine_distances}
RERANK = (0, 100, 1000)
"""How many items, the nearest by code, are ranked again by their descriptors; 0 for none."""
_VECTORS = {RAW: euclidean_distances, COSINE: cosine_distances}


@dataclass(frozen=True)
class NeighbourProtocol:
    """Recall of the true neighbours, which are the nearest descriptors.

    Attributes
    ----------
    queries : int
        Items drawn as queries from a dataset that has no queries of its own: at most half of them.
    k : int
        How many true neighbours a query has.
    distance : str, optional
        `euclidean` or `cosine`; by default that of the dataset's own neighbours, or `euclidean`.
    """

    queries: int = 1000
    k: int = 10
    distance: str | None = None

    def __post_init__(self) -> None:
        check_int("queries", self.queries, 1, 10**6)
        check_int("k", self.k, 1, 1000)
        if self.distance is not None and self.distance not in DISTANCES:
            raise InvalidInput(
                f"the distance must be one of {', '.join(DISTANCES)}; got {self.distance!r}"
            )


@dataclass(frozen=True)
class Recall:
    """The recall of each query, (q, len(RERANK)), and seconds and bytes."""

    recalls: Reals
    fit_seconds: float
    encode_seconds: float
    bytes_per_item: int


class Task:
    """The queries, database and true neighbours of one seed."""

    def __init__(self, dataset: Dataset, protocol: NeighbourProtocol, seed: int) -> None:
        self.seed = seed
        self.k = protocol.k
        self.dataset = dataset
        self.database, self.y = dataset.descriptors, dataset.labels
        given = dataset.given
        if given is None:
            n, n_queries = len(dataset), n_queries_of(dataset, protocol)
            order = np.random.default_rng(seed).permutation(n)
            drawn, others = np.sort(order[:n_queries]), np.sort(order[n_queries:])
            self.queries = self.database[drawn]
            self.database, self.y = self.database[others], self.y[others]
        else:
            self.queries = given.queries
        if self.k > len(self.database):
            raise InvalidInput(
                f"k must be at most {len(self.database)}, the items of the database; got {self.k}"
            )
        self.neighbours: list[Positions] = (
            list(given.neighbours[:, : self.k])
            if given is not None and given.neighbours is not None and uses_given(dataset, protocol)
            else nearest(
                self.queries, self.database, self.k, DISTANCES[distance_of(dataset, protocol)]
            )
        )


def distance_of(dataset: Dataset, protocol: NeighbourProtocol) -> str:
    """Return the distance that makes true neighbours."""
    default = "euclidean" if dataset.given is None else dataset.given.distance
    return protocol.distance or default


def n_queries_of(dataset: Dataset, protocol: NeighbourProtocol) -> int:
    """Return the number of queries; InvalidInput if the dataset is too small."""
    if dataset.given is not None:
        return len(dataset.given.queries)
    if len(dataset) < 2:
        raise InvalidInput(f"a benchmark needs at least two items, got {len(dataset)}")
    return min(protocol.queries, len(dataset) // 2)


def uses_given(dataset: Dataset, protocol: NeighbourProtocol) -> bool:
    """Return whether the true neighbours are those that come with the dataset."""
    given = dataset.given
    if given is None or given.neighbours is None:
        return False
    if distance_of(dataset, protocol) != given.distance:
        return False
    if protocol.k > given.neighbours.shape[1]:
        raise InvalidInput(
            f"k must be at most {given.neighbours.shape[1]}, the true neighbours that "
            f"{dataset.name} has of each query; got {protocol.k}"
        )
    return True


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
        if the first N by code are ranked by their descriptors. Equal distances between codes count
        as the mean over all orders.

    Raises
    ------
    InvalidInput
        There is no seed, the protocol does not fit the dataset, or no row could be measured.
    KeyboardInterrupt
        The benchmark was interrupted before the first row was measured.
    """
    if not seeds:
        raise InvalidInput("a benchmark needs at least one seed")
    seeds = list(dict.fromkeys(seeds))
    n_queries = n_queries_of(dataset, protocol)

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
                | ({"error": errors[row]} if row in errors else _figures(measured[row]))
                for row in rows
            ]
        ),
        **({} if missing is None else {"interrupted": missing}),
    }


def in_words(protocol: Mapping[str, Any], dataset: Mapping[str, Any]) -> str:
    """Describe the protocol of a result of `run_neighbours`."""
    queries = "of its own" if protocol["given_queries"] else "drawn"
    neighbours = (
        "the true neighbours of the file"
        if protocol["given_neighbours"]
        else "true neighbours by exact search"
    )
    return (
        f"{NEIGHBOURS}: {dataset['queries']:,} queries {queries}, {dataset['database']:,} in the "
        f"database, k {protocol['k']}, {protocol['distance']} distance, {neighbours}, "
        f"seed {', '.join(map(str, protocol['seeds']))}"
    )


def measure_recall(row: Row, task: Task) -> Recall:
    """Measure a row; InvalidInput if the method cannot be fitted."""
    if row.method in _VECTORS:
        distances = _VECTORS[row.method](task.queries, task.database)
        rankings = list(rank_by_neighbours(distances, task.neighbours))
        size = task.database.dtype.itemsize * task.database.shape[1]
        return Recall(_recalls(rankings, task), 0.0, 0.0, size)
    hasher: Hasher | OneHotClassifier
    if row.method == CLASSIFIER:
        hasher = OneHotClassifier(task.seed)
    else:
        given = task.dataset.parameters(row.method)
        hasher = make_hasher(row.method, n_bits=row.n_bits, random_state=task.seed, **given)
    start = time.perf_counter()
    hasher.fit(task.database, task.y)
    fitted = time.perf_counter()
    codes = hasher.encode(task.database)
    encoded = time.perf_counter()
    query_codes = hasher.encode(task.queries)
    _, ranking = rank_codes(
        query_codes, _no_labels(query_codes), codes, _no_labels(codes), task.neighbours
    )
    return Recall(
        _recalls([ranking], task),
        # A net may reuse the teacher of the fit before it; the seconds saved count here.
        fitted - start + getattr(hasher, "reused_seconds_", 0.0),
        encoded - fitted,
        code_size(hasher.n_bits),
    )


def _recalls(rankings: list[TiedRankings], task: Task) -> Reals:
    """Return the recall of each query for each number in RERANK.

    Ranked again by the distance that makes true neighbours, these come first. So recall with
    `rerank` is the share of true neighbours among the candidates.
    """
    ranks = np.array([min(max(n, task.k), len(task.database)) for n in RERANK])
    found = np.concatenate([one.relevant_in_first(ranks) for one in rankings])
    # Several items may tie at the k-th true distance: any k of them are right.
    return np.minimum(found / task.k, 1.0)


def _no_labels(X: NDArray[Any]) -> NDArray[np.int64]:
    return np.full(len(X), -1)


def _figures(measured: list[Recall]) -> dict[str, Any]:
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
            for i, n in enumerate(RERANK)
            if n
        },
        "fit_seconds": float(np.mean([one.fit_seconds for one in measured])),
        "encode_seconds": float(np.mean([one.encode_seconds for one in measured])),
        "bytes_per_item": measured[0].bytes_per_item,
    }
