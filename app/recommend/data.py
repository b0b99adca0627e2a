"""The sample that candidates are measured on: training items, database, and two sets of queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.benchmark.neighbours.protocol import DISTANCES
from app.benchmark.rank import Positions, nearest, rank_by_label
from app.benchmark.tied_rankings import Reals, harmonic_numbers
from app.datasets.dataset import Dataset
from app.recommend.goal import Distance, Goal
from hashing import InvalidInput
from hashing.validation import check_finite, check_int

ITEMS, ITEMS_TO_SEARCH = 10_000, 100_000
"""Items of the sample by default, at most: with labels, and without."""
LEAST_ITEMS = 100
"""Fewest items for a recommendation."""
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
    raw : (q,) float64, or None
        The average precision of the descriptors; None if labels are not used.
    """

    X: NDArray[np.float32]
    classes: NDArray[np.int64]
    neighbours: list[Positions] | None
    raw: Reals | None

    def __len__(self) -> int:
        return len(self.X)


class Data:
    """A sample of a dataset in disjoint parts.

    With labels, methods learn from one part and rank another, so that all codes are of items that
    they have not seen. Without labels, the database is the whole sample, since recall falls with
    its size: methods learn from those items of it that are no queries, and a query that finds
    itself finds nothing by that.

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
    itself : int
        1 if each query is an item of the database too, else 0.
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
        self.itself = 0 if self.uses_labels or given is not None else 1
        self.distance: Distance = goal.distance or (
            "cosine"
            if dataset.given is not None and dataset.given.distance == "cosine"
            else "euclidean"
        )
        usable = self._usable()
        chosen = usable[sample(len(usable), n_items, seed)]
        self.n_sampled = len(chosen)
        order = np.random.default_rng(seed).permutation(chosen)
        if given is None:
            n_queries = min(QUERIES, int(_SHARE * len(order)))
            parts = np.split(order, [n_queries, 2 * n_queries])
            of_queries = [dataset.descriptors[part] for part in parts[:2]]
            labels = [dataset.labels[part] for part in parts[:2]]
        else:
            mixed = np.random.default_rng(seed).permutation(len(given.queries))[: 2 * QUERIES]
            halves = np.array_split(mixed, 2)
            of_queries = [given.queries[half] for half in halves]
            labels = [np.full(len(half), -1) for half in halves]
            parts = [order[:0], order[:0], order]
        self._split(parts[2], order)
        self.harmonic = harmonic_numbers(len(self.database))
        self.choosing = self._queries(of_queries[0], labels[0])
        self._confirming = (of_queries[1], labels[1])

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
        if not np.ptp(X[usable], axis=0).any():
            raise InvalidInput(
                f"{_WHAT} needs descriptors that differ: all {len(usable)} are equal"
            )
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
        most = len(database) - self.itself
        if not self.uses_labels and self.goal.k > most:
            raise InvalidInput(
                f"k must be at most {most}, the items that a query searches; got {self.goal.k}"
            )
        if self.uses_labels and len(np.unique(self.y)) < 2:
            raise InvalidInput(f"{_WHAT} needs items of two classes in every part of the sample")

    def _queries(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> Queries:
        distances = DISTANCES[self.distance]
        if not self.uses_labels:
            near = nearest(X, self.database, self.goal.k + self.itself, distances)
            return Queries(X, np.zeros(len(X), np.int64), near, None)
        rankings = rank_by_label(distances(X, self.database), y, self.labels)
        raw = np.concatenate([one.average_precision(self.harmonic) for one in rankings])
        return Queries(X, y, None, raw)
