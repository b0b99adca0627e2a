"""The protocol of a benchmark without labels: queries, database and true neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.benchmark.rank import Positions, cosine_distances, euclidean_distances, nearest
from app.benchmark.rows import NEIGHBOURS
from app.datasets.dataset import Dataset
from hashing import InvalidInput
from hashing.validation import check_int

DISTANCES = {"euclidean": euclidean_distances, "cosine": cosine_distances}
RERANK = (100, 1000)
MAX_RERANK = 10_000


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
    rerank : tuple of int
        How many items, the first of a ranking, are ranked again by their descriptors.
    """

    queries: int = 1000
    k: int = 10
    distance: str | None = None
    rerank: tuple[int, ...] = RERANK

    def __post_init__(self) -> None:
        check_int("queries", self.queries, 1, 10**6)
        check_int("k", self.k, 1, 1000)
        for n in self.rerank:
            check_int("rerank", n, 1, MAX_RERANK)
        if self.distance is not None and self.distance not in DISTANCES:
            raise InvalidInput(
                f"the distance must be one of {', '.join(DISTANCES)}; got {self.distance!r}"
            )


class Task:
    """The queries, database and true neighbours of one seed."""

    def __init__(self, dataset: Dataset, protocol: NeighbourProtocol, seed: int) -> None:
        self.seed = seed
        self.k = protocol.k
        self.rerank = rerank_of(protocol)
        self.distance = distance_of(dataset, protocol)
        self.dataset = dataset
        self.database, self.y = dataset.descriptors, dataset.targets
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
            else nearest(self.queries, self.database, self.k, DISTANCES[self.distance])
        )


def rerank_of(protocol: NeighbourProtocol) -> list[int]:
    """Return how many items are ranked again, ascending."""
    return sorted(set(protocol.rerank))


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
