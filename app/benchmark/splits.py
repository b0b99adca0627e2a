"""Split a dataset into queries, a database, and the labels that `fit` may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.validation import InvalidInput, check_int

RETRIEVAL = "retrieval-59k"
UNSEEN = "unseen-classes"
PROTOCOLS = (RETRIEVAL, UNSEEN)
# Share of the classes that are unseen under `unseen-classes`.
UNSEEN_SHARE = 0.3


@dataclass(frozen=True)
class Protocol:
    """A protocol, as requested.

    `retrieval-59k`: `queries_per_class` items of each class, drawn from a seed, are queries and
    all others are the database; `labels_per_class` items of each class in the database carry a
    label in `fit`.

    `unseen-classes`: as above, but three classes in ten, drawn from the seed, carry no label in
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
    """A dataset split into queries and a database.

    Attributes
    ----------
    queries, database : (q,), (m,) intp
        Positions in the dataset, disjoint. Under `unseen-classes`, the queries of the seen
        classes are in neither.
    y : (m,) int64
        The labels of the database that `fit` may see; -1 for the others.
    unseen : list of int
        Classes without a label in `y`.
    """

    queries: NDArray[np.intp]
    database: NDArray[np.intp]
    y: NDArray[np.int64]
    unseen: list[int]


def describe(protocol: Protocol, labels: NDArray[np.int64], seeds: list[int]) -> dict[str, Any]:
    """Describe the protocol as carried out on these labels: the numbers used, and those asked."""
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
    """Split a dataset class by class.

    At least half of each class stays unlabelled in the database. If the smallest class is too
    small for that, the numbers of queries and labels are scaled down by the same factor.

    Parameters
    ----------
    labels : (n,) int64
        -1 for an item without a label: it is in the database and relevant to nothing.
    protocol : Protocol
    seed : int
        The same seed gives each class the same queries under every protocol.

    Raises
    ------
    InvalidInput
        There are fewer than two classes, under `unseen-classes` three, or a class has fewer than
        four items.
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
    """Queries per class, labels per class, and the size of the smallest class."""
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    min_classes = 3 if protocol.name == UNSEEN else 2
    if len(classes) < min_classes:
        raise InvalidInput(
            f"{protocol.name} needs items of at least {min_classes} classes, got {len(classes)}"
        )
    smallest = int(sizes.min())
    if smallest < 4:
        raise InvalidInput(
            f"every class needs at least four items; class {classes[sizes.argmin()]} has {smallest}"
        )
    n_queries, n_labels = protocol.queries_per_class, protocol.labels_per_class
    needed = 2 * (n_queries + n_labels)
    if smallest >= needed:
        return n_queries, n_labels, smallest
    n_queries, n_labels = (max(1, n * smallest // needed) for n in (n_queries, n_labels))
    return n_queries, n_labels, smallest
