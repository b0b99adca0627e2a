"""Split a dataset into queries, a database, and the labels that `fit` may see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.validation import InvalidInput, check_int

RETRIEVAL = "retrieval-59k"
UNSEEN = "unseen-classes"
UNSEEN_ONLY = "unseen-only"
PROTOCOLS = (RETRIEVAL, UNSEEN, UNSEEN_ONLY)
MIN_ITEMS = 4
"""Fewest items of a class with queries: one, a label, and two more to find."""
# Classes that a note names at most.
_NAMED = 20
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


def describe(
    protocol: Protocol,
    labels: NDArray[np.int64],
    seeds: list[int],
    name: Callable[[int], str] = str,
) -> dict[str, Any]:
    """Describe the protocol as carried out on these labels: the numbers used, and those asked.

    `small_classes` lists the classes with fewer queries and labels than the others, and
    `left_out` those with none; `name` gives the name of a class.
    """
    sizes = _sizes(protocol, labels)
    n_queries, n_labels, smallest = _common(protocol, sizes)
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
    small, left_out = [], []
    for label, numbers in _numbers(protocol, sizes).items():
        one = {"label": label, "name": name(label), "items": sizes[label]}
        if numbers == (0, 0):
            left_out.append(one)
        elif numbers != (n_queries, n_labels):
            small.append(one | {"queries": numbers[0], "labels": numbers[1]})
    return report | {"small_classes": small, "left_out": left_out}


def class_notes(report: dict[str, Any]) -> list[str]:
    """Say which classes have fewer queries and labels than the others, and which have none.

    Parameters
    ----------
    report : dict
        As `describe` returns it.
    """
    notes = []
    if small := report.get("small_classes"):
        classes = [
            f"{one['name']} (items: {one['items']}, queries: {one['queries']}, "
            f"labels: {one['labels']})"
            for one in small
        ]
        notes.append(f"Rare classes have fewer queries and labels: {_first(classes)}.")
    if left_out := report.get("left_out"):
        classes = [f"{one['name']} (items: {one['items']})" for one in left_out]
        notes.append(
            "Left out, without queries and labels, because they have fewer than "
            f"{MIN_ITEMS} items: {_first(classes)}."
        )
    return notes


def _first(classes: list[str]) -> str:
    more = len(classes) - _NAMED
    return ", ".join(classes[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def split(labels: NDArray[np.int64], protocol: Protocol, seed: int) -> Split:
    """Split a dataset class by class.

    At least half of each class stays unlabelled in the database. If a class is too small for that,
    the numbers of queries and labels are scaled down by the same factor, for all classes alike.
    Rare classes do not count there: they have less than half the size of the class of the median
    item, and are scaled on their own. Classes of fewer than MIN_ITEMS items have no queries and no
    labels.

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
        There are fewer than two classes of MIN_ITEMS items, under `unseen-classes` three and
        under `unseen-only` four.
    """
    check_int("seed", seed, 0, 2**63 - 1)
    numbers = _numbers(protocol, _sizes(protocol, labels))
    rng = np.random.default_rng(seed)
    classes = np.array([label for label, (n_queries, _) in numbers.items() if n_queries])
    is_query = np.zeros(len(labels), bool)
    y = np.full(len(labels), -1, np.int64)
    for label in classes:
        members = rng.permutation(np.flatnonzero(labels == label))
        n_queries, n_labels = numbers[label]
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


def _sizes(protocol: Protocol, labels: NDArray[np.int64]) -> dict[int, int]:
    """Return the number of items of each class; InvalidInput if too few classes can be used."""
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    sizes: dict[int, int] = dict(zip(classes.tolist(), counts.tolist(), strict=True))
    needed = _LEAST_SEEN + _LEAST_UNSEEN[protocol.name]
    usable = sum(size >= MIN_ITEMS for size in sizes.values())
    if usable < needed:
        message = f"{protocol.name} needs items of at least {needed} classes, got {usable}"
        if usable < len(sizes):
            smallest = min(sizes, key=lambda label: sizes[label])
            message += f" with at least {MIN_ITEMS} items; class {smallest} has {sizes[smallest]}"
        if not sizes:
            message += ": `bitcell benchmark --protocol neighbours` needs no labels"
        raise InvalidInput(message)
    return sizes


def _common(protocol: Protocol, sizes: dict[int, int]) -> tuple[int, int, int]:
    """Return the queries and labels of each class that is not rare, and the smallest size of these.

    A class is rare if it has less than half the size of the class of the median item. The median
    is over items and not over classes, because most classes may be rare.
    """
    usable = np.sort([size for size in sizes.values() if size >= MIN_ITEMS])
    items = usable.cumsum()
    median = usable[np.searchsorted(2 * items, items[-1])]
    smallest = int(usable[2 * usable >= median][0])
    return *_scaled(protocol, smallest), smallest


def _numbers(protocol: Protocol, sizes: dict[int, int]) -> dict[int, tuple[int, int]]:
    """Return the queries and labels of each class; both are 0 for one that is left out."""
    *common, smallest = _common(protocol, sizes)
    return {
        label: (0, 0)
        if size < MIN_ITEMS
        else _scaled(protocol, size)
        if size < smallest
        else (common[0], common[1])
        for label, size in sizes.items()
    }


def _scaled(protocol: Protocol, size: int) -> tuple[int, int]:
    """Return the queries and labels that leave half of a class of this size."""
    n_queries, n_labels = protocol.queries_per_class, protocol.labels_per_class
    needed = 2 * (n_queries + n_labels)
    if size < needed:
        n_queries, n_labels = (max(1, n * size // needed) for n in (n_queries, n_labels))
    return n_queries, n_labels
