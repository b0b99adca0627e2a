"""One row of a benchmark on one split: fit, encode, rank, measure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.benchmark.metrics import (
    Positions,
    euclidean_distances,
    mean,
    nearest,
    rank_asymmetric,
    rank_codes,
    rank_euclidean,
)
from app.benchmark.ranking import Ranking, Reals, harmonic_numbers
from app.benchmark.splits import Split
from app.datasets.dataset import Dataset
from bitcodes import code_size, hamming
from hashing import HASHERS, InvalidInput, make_hasher
from hashing.base import MAX_BITS
from hashing.validation import check_int

RAW = "raw"
METHODS = (RAW, *HASHERS)
NEIGHBOURS = 100
RADIUS = 2
SHEET = 10
"""Neighbours shown of each query of the sheet."""


@dataclass(frozen=True)
class Row:
    """One row to be measured: a method at a code length; `raw` has none."""

    method: str
    n_bits: int | None

    def __str__(self) -> str:
        return self.method if self.n_bits is None else f"{self.method}, {self.n_bits} bits"


def rows(methods: Sequence[str], bits: Sequence[int]) -> list[Row]:
    """The rows of a table; InvalidInput for an unknown method, a bad length or none at all."""
    if not methods or not bits:
        raise InvalidInput("a benchmark needs at least one method and one code length")
    for method in methods:
        if method not in METHODS:
            raise InvalidInput(f"there is no method {method!r}; there are {', '.join(METHODS)}")
    for n_bits in bits:
        check_int("bits", n_bits, 1, MAX_BITS)
    return [
        Row(method, n_bits)
        for method in dict.fromkeys(methods)
        for n_bits in ([None] if method == RAW else dict.fromkeys(bits))
    ]


class Task:
    """A dataset under one split, with what all rows share."""

    def __init__(self, dataset: Dataset, split: Split, seed: int) -> None:
        self.seed = seed
        self.dataset = dataset
        self.y = split.y
        self.queries = dataset.descriptors[split.queries]
        self.database = dataset.descriptors[split.database]
        self.query_labels = dataset.labels[split.queries]
        self.labels = dataset.labels[split.database]
        self.neighbours = nearest(self.queries, self.database, NEIGHBOURS)
        self.harmonic = harmonic_numbers(len(self.database))
        # One query of each class, for the sheet.
        self.shown = np.unique(self.query_labels, return_index=True)[1][:SHEET]


@dataclass(frozen=True)
class Measured:
    """What one row gave on one split.

    Attributes
    ----------
    precisions : (q,) float64
        Average precision of each query.
    figures : dict
        Means over queries in 0 to 1, seconds, bytes; None where a figure means nothing.
    curve : (k, 2) float64
        Recall and precision at `curve_ranks`.
    sheet : (s, SHEET) intp
        Positions in the database of the first neighbours of the queries shown.
    """

    precisions: Reals
    figures: dict[str, float | None]
    curve: NDArray[np.float64]
    sheet: Positions


def measure(row: Row, task: Task) -> Measured:
    """Measure a method on a split; InvalidInput where it cannot be fitted to it."""
    return _raw(task) if row.n_bits is None else _codes(row.method, row.n_bits, task)


def curve_ranks(n: int) -> NDArray[np.int64]:
    """The ranks at which precision and recall are taken, from 1 to n, denser at the front."""
    return np.unique(np.geomspace(1, n, 60).astype(np.int64))


def _codes(method: str, n_bits: int, task: Task) -> Measured:
    start = time.perf_counter()
    params = task.dataset.parameters(method)
    hasher = make_hasher(method, n_bits=n_bits, random_state=task.seed, **params)
    hasher.fit(task.database, task.y)
    fitted = time.perf_counter()
    codes = hasher.encode(task.database)
    encoded = time.perf_counter()
    queries = hasher.encode(task.queries)
    ranking, by_neighbours = rank_codes(
        queries, task.query_labels, codes, task.labels, task.neighbours
    )
    by_projection = rank_asymmetric(
        hasher.project(task.queries), task.query_labels, codes, task.labels
    )
    asymmetric = [one.average_precision(task.harmonic) for one in by_projection]
    near, relevant = ranking.within(RADIUS)
    k = task.neighbours.shape[1]
    figures: dict[str, float | None] = {
        "map_asymmetric": mean(np.concatenate(asymmetric)),
        # A query that finds nothing counts as a precision of zero.
        "precision_radius_2": float((relevant / np.maximum(near, 1)).mean()),
        "recall_radius_2": _share(relevant, ranking.relevant.sum(axis=1)),
        "empty_radius_2": float((near == 0).mean()),
        "recall_neighbours_100": float(by_neighbours.relevant_in_first(np.array([k])).mean() / k),
        "fit_seconds": fitted - start + getattr(hasher, "reused_seconds_", 0.0),
        "encode_seconds": encoded - fitted,
        "bytes_per_item": code_size(n_bits),
    }
    order = np.argsort(hamming(queries[task.shown], codes), axis=1, kind="stable")
    return _measured([ranking], figures, order[:, :SHEET], task)


def _raw(task: Task) -> Measured:
    rankings = rank_euclidean(task.queries, task.query_labels, task.database, task.labels)
    figures: dict[str, float | None] = {
        "map_asymmetric": None,
        "precision_radius_2": None,
        "recall_radius_2": None,
        "empty_radius_2": None,
        "recall_neighbours_100": 1.0,
        "fit_seconds": 0.0,
        "encode_seconds": 0.0,
        "bytes_per_item": task.database.dtype.itemsize * task.database.shape[1],
    }
    sheet = [
        np.argsort(distances, axis=1, kind="stable")[:, :SHEET]
        for _, distances in euclidean_distances(task.queries[task.shown], task.database)
    ]
    return _measured(rankings, figures, np.concatenate(sheet), task)


def _measured(
    rankings: Iterable[Ranking], figures: dict[str, float | None], sheet: Positions, task: Task
) -> Measured:
    ranks = curve_ranks(len(task.database))
    parts = [
        (
            ranking.average_precision(task.harmonic),
            ranking.relevant_in_first(np.concatenate([ranks, [100, 1000]])),
            ranking.relevant.sum(axis=1),
        )
        for ranking in rankings
    ]
    precisions, found, n_relevant = (np.concatenate(part) for part in zip(*parts, strict=True))
    figures |= {
        "precision_100": float(found[:, -2].mean()) / min(100, len(task.database)),
        "precision_1000": float(found[:, -1].mean()) / min(1000, len(task.database)),
    }
    curve = [
        (_share(found[:, i], n_relevant), float(found[:, i].mean()) / k)
        for i, k in enumerate(ranks.tolist())
    ]
    return Measured(precisions, figures, np.array(curve), sheet)


def _share(found: NDArray[Any], of: NDArray[Any]) -> float:
    """Mean of found / of over the queries where there is anything to be found."""
    there = of > 0
    return float((found[there] / of[there]).mean()) if there.any() else float("nan")
