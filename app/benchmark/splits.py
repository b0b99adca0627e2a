"""Split a dataset into queries, a database, and the labels that `fit` may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.validation import InvalidInput, check_int

RETRIEVAL = "retrieval-59k"
UNSEEN = "unseen-classes"
UNSEEN_ONLY = "unseen-only"
PROTOCOLS = (RETRIEVAL, UNSEEN, UNSEEN_ONLY)
# Share of the classes that are unseen under the two protocols with unseen classes.
UNSEEN_SHARE = 0.3
# Seen and unseen classes that a protocol needs at least. Among items of a single class every
# ranking would be perfect.
_LEAST_SEEN = 2
_LEAST_UNSEEN = {RETRIEVAL: 0, UNSEEN: 1, UNSEEN_ONLY: 2}


@dataclass(frozen=True)
class Protocol:
    """A protocol, as requested.

    `retrieval-59k`: `queries_per_class` items of each class, drawn from a seed, are queries and
    all others are the database; `labels_per_class` items of each class in the database carry a
    label in `fit`.

    `unseen-classes`: as above, but three classes in ten, drawn from the seed, carry no label in
    the database, and only their items are queries. A code that merely classifies fails there,
    unless it tells the unseen classes from the seen ones: the database has all classes.

    `unseen-only`: the database has items of the unseen classes only, and `fit` sees those of the
    other classes only. This is the first protocol of A. Sablayrolles, M. Douze, N. Usunier, H.
    Jégou, "How should we evaluate supervised hashing?", ICASSP 2017 (arXiv:1609.06753), which has
    a quarter of the classes unseen.
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
    """A dataset split into queries, a database, and what `fit` sees.

    Attributes
    ----------
    queries, database : (q,), (m,) intp
        Positions in the dataset, disjoint. With unseen classes, the items of the seen classes
        that would be queries are in neither.
    training : (n,) intp
        Positions of the items that `fit` sees: the database, but under `unseen-only` the items of
        the seen classes. No query is among them.
    y : (n,) int64
        The labels that `fit` sees, of the items in `training`; -1 for the others.
    unseen : list of int
        Classes without a label in `y`.
    """

    queries: NDArray[np.intp]
    database: NDArray[np.intp]
    training: NDArray[np.intp]
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
        -1 for an item without a label: it is relevant to nothing. It is in the database, but under
        `unseen-only` only in `training`.
    protocol : Protocol
    seed : int
        The same seed gives each class the same queries under every protocol.

    Raises
    ------
    InvalidInput
        There are fewer than two classes, under `unseen-classes` three and under `unseen-only`
        four, or a class has fewer than four items.
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
    queries, others = np.flatnonzero(is_query), np.flatnonzero(~is_query)
    if protocol.name == RETRIEVAL:
        return Split(queries, others, others, y[others], [])
    least = _LEAST_UNSEEN[protocol.name]
    count = min(max(least, round(UNSEEN_SHARE * len(classes))), len(classes) - _LEAST_SEEN)
    unseen = sorted(rng.choice(classes, count, replace=False).tolist())
    y[np.isin(y, unseen)] = -1
    queries = queries[np.isin(labels[queries], unseen)]
    if protocol.name == UNSEEN:
        return Split(queries, others, others, y[others], unseen)
    is_unseen = np.isin(labels[others], unseen)
    training = others[~is_unseen]
    return Split(queries, others[is_unseen], training, y[training], unseen)


def _numbers(protocol: Protocol, labels: NDArray[np.int64]) -> tuple[int, int, int]:
    """Queries per class, labels per class, and the size of the smallest class."""
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    min_classes = _LEAST_SEEN + _LEAST_UNSEEN[protocol.name]
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
