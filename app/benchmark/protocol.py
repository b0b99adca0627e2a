"""Who is a query, who is in the database, and who carries a label."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.base import InvalidInput, check_int


@dataclass(frozen=True)
class Retrieval:
    """The protocol `retrieval-59k`, as asked for.

    From `seed`, `queries_per_class` items of each class are queries and all others the database;
    `labels_per_class` items of each class in the database carry a label in `fit`.
    """

    queries_per_class: int = 100
    labels_per_class: int = 200
    seed: int = 0

    name = "retrieval-59k"

    def __post_init__(self) -> None:
        check_int("queries_per_class", self.queries_per_class, 1, 10**6)
        check_int("labels_per_class", self.labels_per_class, 1, 10**6)
        check_int("seed", self.seed, 0, 2**63 - 1)


@dataclass(frozen=True)
class Split:
    """A dataset, split.

    Attributes
    ----------
    queries, database : (q,), (m,) intp
        Positions in the dataset, disjoint, together all of it.
    y : (m,) int64
        What `fit` may see: the labels of the labelled part of the database, -1 elsewhere.
    protocol : dict
        What was done, for the result: the numbers used, the numbers asked for, why they differ.
    """

    queries: NDArray[np.intp]
    database: NDArray[np.intp]
    y: NDArray[np.int64]
    protocol: dict[str, Any]


def split(labels: NDArray[np.int64], protocol: Retrieval) -> Split:
    """Split by class.

    Where the smallest class has too few items for at least half of it to stay unlabelled in the
    database, both numbers are scaled down by the same factor.

    Parameters
    ----------
    labels : (n,) int64
        -1 for items without a label: they are in the database and relevant to nothing.
    protocol : Retrieval

    Raises
    ------
    InvalidInput
        Fewer than two classes, or a class of fewer than four items.
    """
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    if len(classes) < 2:
        raise InvalidInput(f"the protocol needs items of two classes or more, got {len(classes)}")
    smallest = int(sizes.min())
    if smallest < 4:
        raise InvalidInput(
            f"every class needs four items or more; class {classes[sizes.argmin()]} has {smallest}"
        )
    n_queries, n_labels = protocol.queries_per_class, protocol.labels_per_class
    needed = 2 * (n_queries + n_labels)
    if smallest < needed:
        n_queries = max(1, n_queries * smallest // needed)
        n_labels = max(1, n_labels * smallest // needed)

    rng = np.random.default_rng(protocol.seed)
    is_query = np.zeros(len(labels), bool)
    y = np.full(len(labels), -1, np.int64)
    for label in classes:
        members = rng.permutation(np.flatnonzero(labels == label))
        is_query[members[:n_queries]] = True
        y[members[n_queries : n_queries + n_labels]] = label
    report = {
        "name": protocol.name,
        "seed": protocol.seed,
        "queries_per_class": n_queries,
        "labels_per_class": n_labels,
        "asked": {k: v for k, v in asdict(protocol).items() if k != "seed"},
    }
    if smallest < needed:
        report["scaled"] = (
            f"the smallest class has {smallest} items, fewer than twice "
            f"{protocol.queries_per_class} queries and {protocol.labels_per_class} labels"
        )
    database = np.flatnonzero(~is_query)
    return Split(np.flatnonzero(is_query), database, y[database], report)
