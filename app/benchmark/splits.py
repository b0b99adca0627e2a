"""Split a dataset into queries, a database, and the labels that `fit` may see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.labels import Labels, check_one_each, class_sizes, has_class, unlabelled_like
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
    y : (n,) int64 or (n, c) bool
        The labels that `fit` sees, of the items in `training`; none for the others.
    unseen : list of int
        Classes without a label in `y`.
    query_classes : (q,) int64
        The class for which each query was drawn.
    """

    queries: NDArray[np.intp]
    database: NDArray[np.intp]
    training: NDArray[np.intp]
    y: Labels
    unseen: list[int]
    query_classes: NDArray[np.int64]


def describe(
    protocol: Protocol,
    labels: Labels,
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


def split(labels: Labels, protocol: Protocol, seed: int) -> Split:
    """Split a dataset class by class.

    At least half of each class stays unlabelled in the database. If a class is too small for that,
    the numbers of queries and labels are scaled down by the same factor, for all classes alike.
    Rare classes do not count there: they have less than half the size of the class of the median
    item, and are scaled on their own. Classes of fewer than MIN_ITEMS items have no queries and no
    labels.

    If items have several labels, the classes are served from the rarest to the largest, and items
    that were drawn for one count for all their classes. A class then has at least its numbers of
    queries and labels, and frequent ones have more.

    Parameters
    ----------
    labels : (n,) int64 or (n, c) bool
        An item without a label is relevant to nothing. It is in the database, but under
        `unseen-only` only in `training`.
    protocol : Protocol
    seed : int
        The same seed gives each class the same queries under every protocol.

    Raises
    ------
    InvalidInput
        There are fewer than two classes of MIN_ITEMS items, under `unseen-classes` three and
        under `unseen-only` four; or items have several labels, and classes are to be unseen.
    """
    check_int("seed", seed, 0, 2**63 - 1)
    if protocol.name != RETRIEVAL:
        check_one_each(labels, protocol.name)
    sizes = _sizes(protocol, labels)
    numbers = _numbers(protocol, sizes)
    rng = np.random.default_rng(seed)
    classes = np.array([label for label, (n_queries, _) in numbers.items() if n_queries])
    in_turn: list[int] = classes.tolist()
    if labels.ndim == 2:
        in_turn.sort(key=lambda label: sizes[label])
    drawn_for, is_taught = np.full(len(labels), -1), np.zeros(len(labels), bool)
    for label in in_turn:
        members = rng.permutation(np.flatnonzero(has_class(labels, label)))
        n_queries, n_labels = numbers[label]
        # With one label per item, nothing has been drawn for this class before.
        n_queries = max(0, n_queries - int(np.count_nonzero(drawn_for[members] >= 0)))
        n_labels = max(0, n_labels - int(np.count_nonzero(is_taught[members])))
        free = members[(drawn_for[members] < 0) & ~is_taught[members]]
        drawn_for[free[:n_queries]] = label
        is_taught[free[n_queries : n_queries + n_labels]] = True
    y = unlabelled_like(labels)
    y[is_taught] = labels[is_taught]
    queries, others = np.flatnonzero(drawn_for >= 0), np.flatnonzero(drawn_for < 0)
    if protocol.name == RETRIEVAL:
        return Split(queries, others, others, y[others], [], drawn_for[queries])
    least = _LEAST_UNSEEN[protocol.name]
    count = min(max(least, round(UNSEEN_SHARE * len(classes))), len(classes) - _LEAST_SEEN)
    unseen = sorted(rng.choice(classes, count, replace=False).tolist())
    y[np.isin(y, unseen)] = -1
    queries = queries[np.isin(labels[queries], unseen)]
    query_classes = drawn_for[queries]
    if protocol.name == UNSEEN:
        return Split(queries, others, others, y[others], unseen, query_classes)
    is_unseen = np.isin(labels[others], unseen)
    training = others[~is_unseen]
    return Split(queries, others[is_unseen], training, y[training], unseen, query_classes)


def _sizes(protocol: Protocol, labels: Labels) -> dict[int, int]:
    """Return the number of items of each class; InvalidInput if too few classes can be used."""
    sizes = class_sizes(labels)
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
