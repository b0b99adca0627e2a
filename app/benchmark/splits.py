"""Who is a query, who is in the database, and who carries a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.validation import InvalidInput, check_int

RETRIEVAL = "retrieval-59k"
UNSEEN = "unseen-classes"
PROTOCOLS = (RETRIEVAL, UNSEEN)
# Of the classes, under `unseen-classes`.
UNSEEN_SHARE = 0.3


@dataclass(frozen=True)
class Protocol:
    """A protocol, as asked for.

    `retrieval-59k`: from a seed, `queries_per_class` items of each class are queries and all
    others the database; `labels_per_class` items of each class in the database carry a label in
    `fit`.

    `unseen-classes`: as before, but three classes of ten, drawn from the seed, carry no label in
    the database, and only their items are queries. A code that merely classifies fails there.
    """

    name: str = RETRIEVAL
    queries_per_class: int = 100
    labels_per_class: int = 200

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            raise InvalidInput(
                f"there is no protocol {self.name!r}; there are {', '.join(PROTOCOLS)}"
            )
        check_int("queries_per_class", self.queries_per_class, 1, 10**6)
        check_int("labels_per_class", self.labels_per_class, 1, 10**6)


@dataclass(frozen=True)
class Split:
    """A dataset, split.

    Attributes
    ----------
    queries, database : (q,), (m,) intp
        Positions in the dataset, disjoint; queries that are left out are in neither.
    y : (m,) int64
        What `fit` may see: the labels of the labelled part of the database, -1 elsewhere.
    unseen : list of int
        Classes without a label in `y`.
    """

    queries: NDArray[np.intp]
    database: NDArray[np.intp]
    y: NDArray[np.int64]
    unseen: list[int]


def describe(protocol: Protocol, labels: NDArray[np.int64], seeds: list[int]) -> dict[str, Any]:
    """The protocol as it is carried out on these labels: the numbers used, and asked for."""
    n_queries, n_labels, smallest = _numbers(protocol, labels)
    asked = {
        "queries_per_class": protocol.queries_per_class,
        "labels_per_class": protocol.labels_per_class,
    }
    used = {"queries_per_class": n_queries, "labels_per_class": n_labels}
    report = {"name": protocol.name, "seeds": seeds, **used, "asked": asked}
    if used != asked:
        report["scaled"] = (
            f"the smallest class has {smallest} items, fewer than twice "
            f"{protocol.queries_per_class} queries and {protocol.labels_per_class} labels"
        )
    return report


def split(labels: NDArray[np.int64], protocol: Protocol, seed: int) -> Split:
    """Split by class.

    Where the smallest class has too few items for at least half of it to stay unlabelled in the
    database, both numbers are scaled down by the same factor.

    Parameters
    ----------
    labels : (n,) int64
        -1 for items without a label: they are in the database and relevant to nothing.
    protocol : Protocol
    seed : int
        The same seed gives the same queries under every protocol, of the classes that have any.

    Raises
    ------
    InvalidInput
        Too few classes, two and under `unseen-classes` three, or a class of under four items.
    """
    check_int("seed", seed, 0, 2**63 - 1)
    n_queries, n_labels, _ = _numbers(protocol, labels)
    rng = np.random.default_rng(seed)
    classes = np.unique(labels[labels >= 0])
    is_query = np.zeros(len(labels), bool)
    y = np.full(len(labels), -1, np.int64)
    for label in classes:
        members = rng.permutation(np.flatnonzero(labels == label))
        is_query[members[:n_queries]] = True
        y[members[n_queries : n_queries + n_labels]] = label
    queries, database = np.flatnonzero(is_query), np.flatnonzero(~is_query)
    unseen: list[int] = []
    if protocol.name == UNSEEN:
        count = min(max(1, round(UNSEEN_SHARE * len(classes))), len(classes) - 2)
        unseen = sorted(rng.choice(classes, count, replace=False).tolist())
        y[np.isin(y, unseen)] = -1
        queries = queries[np.isin(labels[queries], unseen)]
    return Split(queries, database, y[database], unseen)


def _numbers(protocol: Protocol, labels: NDArray[np.int64]) -> tuple[int, int, int]:
    """Queries and labels a class, and the size of the smallest class."""
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    needed_classes = 3 if protocol.name == UNSEEN else 2
    if len(classes) < needed_classes:
        raise InvalidInput(
            f"{protocol.name} needs items of {needed_classes} classes or more, got {len(classes)}"
        )
    smallest = int(sizes.min())
    if smallest < 4:
        raise InvalidInput(
            f"every class needs four items or more; class {classes[sizes.argmin()]} has {smallest}"
        )
    n_queries, n_labels = protocol.queries_per_class, protocol.labels_per_class
    needed = 2 * (n_queries + n_labels)
    if smallest >= needed:
        return n_queries, n_labels, smallest
    n_queries, n_labels = (max(1, n * smallest // needed) for n in (n_queries, n_labels))
    return n_queries, n_labels, smallest
