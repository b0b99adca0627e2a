"""Measure one row of a benchmark on one split: fit, encode, rank."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.benchmark.averages import mean
from app.benchmark.rank import (
    Positions,
    euclidean_distances,
    nearest,
    rank_asymmetric,
    rank_codes,
    rank_euclidean,
)
from app.benchmark.rows import Row
from app.benchmark.splits import Split
from app.benchmark.tied_rankings import Reals, TiedRankings, harmonic_numbers
from app.datasets.dataset import Dataset
from bitcodes import Codes, code_size, hamming
from hashing import Hasher, InvalidInput, make_hasher
from hashing.nets.net import Net1, Net2
from hashing.nets.teacher import Teacher

NEIGHBOURS = 100
RADIUS = 2
SHEET = 10
"""Queries on the sheet, one per class, at most; and neighbours shown for each."""

Figures = dict[str, float | None]


class Task:
    """A dataset under one split, and what all rows share."""

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
        self.sheet_queries = sheet_queries(self.query_labels)
        privileged = dataset.privileged
        self.privileged = None if privileged is None else privileged[split.database]
        self._teachers: list[tuple[bool, Teacher]] = []

    def teacher(self, net: Net1 | Net2, *, privileged: bool) -> Teacher:
        """Return the teacher of a net, which all nets with the same parameters share."""
        wanted = net.new_teacher()
        for with_privileged, teacher in self._teachers:
            if teacher == wanted and with_privileged == privileged:
                return teacher
        wanted.fit(self.database, self.y, self.privileged if privileged else None)
        self._teachers.append((privileged, wanted))
        return wanted


@dataclass(frozen=True)
class Measured:
    """The figures of one row on one split.

    Attributes
    ----------
    precisions : (q,) float64
        Average precision of each query.
    figures : dict
        Means over queries in 0 to 1, seconds, bytes; None for a figure that does not apply.
    curve : (k, 2) float64
        Recall and precision at `curve_ranks`.
    sheet : (s, SHEET) intp
        Positions in the database of the first neighbours of the queries on the sheet.
    """

    precisions: Reals
    figures: Figures
    curve: NDArray[np.float64]
    sheet: Positions


def measure(row: Row, task: Task) -> Measured:
    """Measure a row on a split; InvalidInput if the method cannot be fitted to it."""
    if row.n_bits is None:
        return _measure_raw(task)
    return _measure_codes(row, row.n_bits, task)


def curve_ranks(n: int) -> NDArray[np.int64]:
    """Return the ranks at which the curve is measured: from 1 to n, denser at the front."""
    return np.unique(np.geomspace(1, n, 60).astype(np.int64))


def sheet_queries(query_labels: NDArray[np.int64]) -> Positions:
    """Return the positions, among the queries, of those on the sheet: the first of each class."""
    return np.unique(query_labels, return_index=True)[1][:SHEET]


def _measure_codes(row: Row, n_bits: int, task: Task) -> Measured:
    start = time.perf_counter()
    hasher, reused = _fit(row, n_bits, task)
    fitted = time.perf_counter()
    codes = hasher.encode(task.database)
    encoded = time.perf_counter()
    query_codes = hasher.encode(task.queries)
    rankings, by_neighbours = rank_codes(
        query_codes, task.query_labels, codes, task.labels, task.neighbours
    )
    k = task.neighbours.shape[1]
    figures: Figures = {
        "map_asymmetric": _map_asymmetric(hasher, codes, task),
        **_radius_figures(rankings),
        "recall_neighbours_100": float(by_neighbours.relevant_in_first(np.array([k])).mean() / k),
        "fit_seconds": fitted - start + reused,
        "encode_seconds": encoded - fitted,
        "bytes_per_item": code_size(n_bits),
    }
    distances = hamming(query_codes[task.sheet_queries], codes)
    sheet = np.argsort(distances, axis=1, kind="stable")[:, :SHEET]
    return _measured([rankings], figures, sheet, task)


def _fit(row: Row, n_bits: int, task: Task) -> tuple[Hasher, float]:
    """Return a fitted hasher, and the seconds saved because its teacher was there already."""
    dataset = task.dataset if row.privileged else task.dataset.without_privileged()
    if row.privileged and dataset.privileged is None:
        raise InvalidInput(f"{row.method} needs privileged features, which {dataset.name} lacks")
    params = dataset.parameters(row.hasher)
    hasher = make_hasher(row.hasher, n_bits=n_bits, random_state=task.seed, **params)
    if not isinstance(hasher, Net1 | Net2):
        return hasher.fit(task.database, task.y), 0.0
    start = time.perf_counter()
    teacher = task.teacher(hasher, privileged=row.privileged)
    reused = max(0.0, teacher.seconds_ - (time.perf_counter() - start))
    return hasher.fit(task.database, task.y, teacher=teacher), reused


def _map_asymmetric(hasher: Hasher, codes: Codes, task: Task) -> float:
    """Mean average precision where queries are not rounded to bits."""
    projections = hasher.project(task.queries)
    rankings = rank_asymmetric(projections, task.query_labels, codes, task.labels)
    return mean(np.concatenate([one.average_precision(task.harmonic) for one in rankings]))


def _radius_figures(rankings: TiedRankings) -> Figures:
    """Precision and recall within Hamming radius 2, and the share of queries that find nothing."""
    found, relevant = rankings.within(RADIUS)
    return {
        # A query that finds nothing counts as a precision of zero.
        "precision_radius_2": float((relevant / np.maximum(found, 1)).mean()),
        "recall_radius_2": _mean_share(relevant, rankings.relevant.sum(axis=1)),
        "empty_radius_2": float((found == 0).mean()),
    }


def _measure_raw(task: Task) -> Measured:
    rankings = rank_euclidean(task.queries, task.query_labels, task.database, task.labels)
    figures: Figures = {
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
        for _, distances in euclidean_distances(task.queries[task.sheet_queries], task.database)
    ]
    return _measured(rankings, figures, np.concatenate(sheet), task)


def _measured(
    rankings: Iterable[TiedRankings], figures: Figures, sheet: Positions, task: Task
) -> Measured:
    """Add the figures that codes and `raw` have in common, and the curve."""
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
        (_mean_share(found[:, i], n_relevant), float(found[:, i].mean()) / k)
        for i, k in enumerate(ranks.tolist())
    ]
    return Measured(precisions, figures, np.array(curve), sheet)


def _mean_share(found: NDArray[Any], total: NDArray[Any]) -> float:
    """Mean of found / total over the queries with a total above zero; NaN if there are none."""
    counted = total > 0
    return float((found[counted] / total[counted]).mean()) if counted.any() else float("nan")
