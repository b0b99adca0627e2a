"""The sample that candidates are measured on: training items, database, and two sets of queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.benchmark.neighbours.protocol import DISTANCES
from app.benchmark.rank import Blocks, Positions, nearest, rank_by_label
from app.benchmark.tied_rankings import Reals, harmonic_numbers
from app.datasets.dataset import Dataset
from app.recommend.goal import Distance, Goal
from hashing import InvalidInput
from hashing.validation import check_finite, check_int

ITEMS, ITEMS_TO_SEARCH = 10_000, 100_000
"""Items of the sample by default, at most: with labels, and without."""
LEAST_ITEMS, LEAST_QUERIES = 100, 30
"""Fewest items for a recommendation, and fewest queries in both sets together."""
QUERIES = 1000
"""Queries in each of the two sets, at most."""
_WHAT = "a recommendation"
# The part of the sample that each of the two sets of queries is.
_SHARE = 1 / 6
# Items that methods learn from, at most.
_TRAINING = 10_000
# Fewest labelled items of the two largest classes: one for each of the four parts.
_LEAST_OF_CLASS = 4


@dataclass(frozen=True)
class Queries:
    """Queries that no method learns from.

    Attributes
    ----------
    X : (q, d)
    classes : (q,) int
        Their labels; 0 for all of them if labels are not used.
    neighbours : list of positions, or None
        Where their true neighbours are in the database; None if labels are used.
    itself : (q,) int, or None
        Where each query is in the database, which its neighbours and rankings leave out; None if
        the queries are not among its items.
    raw : (q,) float64, or None
        The average precision of the descriptors; None if labels are not used.
    """

    X: NDArray[np.float32]
    classes: NDArray[np.int64]
    neighbours: list[Positions] | None
    itself: Positions | None
    raw: Reals | None

    def __len__(self) -> int:
        return len(self.X)


class Data:
    """A sample of a dataset in disjoint parts.

    With labels, methods learn from one part and rank another, so that all codes are of items that
    they have not seen. Without labels, the database is the whole sample, since recall falls with
    its size: methods learn from those items of it that are no queries, and a query does not
    search for itself.

    Attributes
    ----------
    uses_labels : bool
        Whether quality is mAP; otherwise it is the recall of true neighbours.
    X, y : (n, d), (n,)
        What methods learn from.
    database, labels : (m, d), (m,)
        What is ranked.
    choosing, confirming : Queries
        The second set takes no part in the choice.
    n_searched : int
        Items that a query searches: those of the database but itself.
    n_sampled : int
        Items of the sample, queries of the dataset's own not counted.
    """

    def __init__(self, dataset: Dataset, goal: Goal, n_items: int | None, seed: int) -> None:
        # Not at the top: a service that only queues jobs does not need scipy in memory.
        from hashing.theory.samples import sample

        check_int("seed", seed, 0, 2**63 - 1)
        self.dataset, self.goal, self.seed = dataset, goal, seed
        self.uses_labels = goal.within is not None or (
            goal.bytes is not None and bool((dataset.labels >= 0).any())
        )
        if self.uses_labels:
            dataset.one_label_each(_WHAT)
        given = None if self.uses_labels else dataset.given
        if n_items is None:
            n_items = ITEMS if self.uses_labels else ITEMS_TO_SEARCH
        check_int("items", n_items, LEAST_ITEMS, 10**9)
        self.distance: Distance = goal.distance or (
            "cosine"
            if dataset.given is not None and dataset.given.distance == "cosine"
            else "euclidean"
        )
        usable = self._usable()
        chosen = usable[sample(len(usable), n_items, seed)]
        if not np.ptp(dataset.descriptors[chosen], axis=0).any():
            raise InvalidInput(
                f"{_WHAT} needs descriptors that differ: all {len(chosen)} are equal"
            )
        self.n_sampled = len(chosen)
        order = np.random.default_rng(seed).permutation(chosen)
        n_queries = 0 if given is not None else min(QUERIES, int(_SHARE * len(order)))
        self._split(order[2 * n_queries :], order)
        self.harmonic = harmonic_numbers(len(self.database))
        if given is None:
            first, second = order[:n_queries], order[n_queries : 2 * n_queries]
        else:
            mixed = np.random.default_rng(seed).permutation(len(given.queries))[: 2 * QUERIES]
            first, second = np.array_split(mixed, 2)
        if self.uses_labels:
            # A query without a relevant item has no average precision.
            first, second = (p[np.isin(dataset.labels[p], self.labels)] for p in (first, second))
        _check_enough(len(first), len(second))
        self.choosing = self._queries(first, 0)
        self._confirming = second, len(first)

    @property
    def confirming(self) -> Queries:
        """The queries that confirm the choice."""
        return self._queries(*self._confirming)

    def _usable(self) -> Positions:
        """Return the positions that can be sampled; InvalidInput if the data cannot be used."""
        from hashing.theory.samples import classes_of

        X, y = self.dataset.descriptors, self.dataset.labels
        check_finite(X)
        usable = np.arange(len(X))
        if self.uses_labels:
            hint = "; the goal recall needs no labels"
            try:
                classes_of(y, len(y), _WHAT, _LEAST_OF_CLASS)
            except InvalidInput as error:
                raise InvalidInput(f"{error}{hint if not (y >= 0).any() else ''}") from None
            usable = np.flatnonzero(y >= 0)
        if len(usable) < LEAST_ITEMS:
            kind = "labelled items" if self.uses_labels else "items"
            raise InvalidInput(f"{_WHAT} needs at least {LEAST_ITEMS} {kind}, got {len(usable)}")
        return usable

    def _split(self, others: Positions, all_: Positions) -> None:
        """Choose what methods learn from, among `others`, no queries; and the database."""
        X, y = self.dataset.descriptors, self.dataset.labels
        if self.uses_labels:
            training, database = np.array_split(others, 2)
        else:
            training, database = others[:_TRAINING], all_
        self.X, self.y = X[training], y[training]
        self.database, self.labels = X[database], y[database]
        apart = self.uses_labels or self.dataset.given is not None
        self.n_searched = len(database) - (0 if apart else 1)
        if not self.uses_labels and self.goal.k > self.n_searched:
            raise InvalidInput(
                f"k must be at most {self.n_searched}, the items that a query searches; "
                f"got {self.goal.k}"
            )
        if self.uses_labels and len(np.unique(self.y)) < 2:
            raise InvalidInput(f"{_WHAT} needs items of two classes in every part of the sample")

    def _queries(self, drawn: Positions, first: int) -> Queries:
        """Return queries at the positions `drawn`; those of the database begin there at `first`."""
        dataset, distances, k = self.dataset, DISTANCES[self.distance], self.goal.k
        if self.uses_labels:
            X, y = dataset.descriptors[drawn], dataset.labels[drawn]
            rankings = rank_by_label(distances(X, self.database), y, self.labels)
            raw = np.concatenate([one.average_precision(self.harmonic) for one in rankings])
            return Queries(X, y, None, None, raw)
        classes = np.zeros(len(drawn), np.int64)
        if dataset.given is not None:
            X = dataset.given.queries[drawn]
            return Queries(X, classes, nearest(X, self.database, k, distances), None, None)
        X, itself = dataset.descriptors[drawn], np.arange(first, first + len(drawn))
        near = nearest(X, self.database, k, lambda *of: without_itself(distances(*of), itself))
        return Queries(X, classes, near, itself, None)


def without_itself(blocks: Blocks, itself: Positions) -> Blocks:
    """Yield distances in which each query is infinitely far from its own item of the database."""
    for block, distances in blocks:
        distances[np.arange(len(distances)), itself[block]] = np.inf
        yield block, distances


def _check_enough(n_choosing: int, n_confirming: int) -> None:
    if min(n_choosing, n_confirming) < LEAST_QUERIES // 2:
        raise InvalidInput(
            f"{_WHAT} needs at least {LEAST_QUERIES} queries that have something to find, half of "
            f"them to choose by and half to confirm the choice; got {n_choosing + n_confirming}"
        )
