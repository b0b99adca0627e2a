"""Measure one row of a benchmark on one split: fit, encode, rank."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.benchmark.averages import mean
from app.benchmark.classifier import OneHotClassifier
from app.benchmark.rank import (
    Blocks,
    Positions,
    cosine_distances,
    euclidean_distances,
    nearest,
    rank_asymmetric,
    rank_by_label,
    rank_by_neighbours,
    rank_codes,
)
from app.benchmark.rows import CLASSIFIER, COSINE, RAW, Row
from app.benchmark.splits import Split
from app.benchmark.tied_rankings import Reals, TiedRankings, harmonic_numbers
from app.benchmark.tuning import tune
from app.datasets.dataset import Dataset
from bitcodes import Codes, code_size, hamming
from hashing import Hasher, InvalidInput, make_hasher
from hashing.nets.teacher import Teacher
from hashing.nets.torch_check import check_torch
from hashing.nets.trained_net import TrainedNet

NEIGHBOURS = 100
RADIUS = 2
FIRST = 5000
"""mAP is also measured in this many first items, as some papers do."""
SHEET = 10
"""Queries on the sheet, one per class, at most; and neighbours shown for each."""

Figures = dict[str, float | None]

_VECTORS = {RAW: euclidean_distances, COSINE: cosine_distances}


class Task:
    """A dataset under one split, and what all rows share."""

    def __init__(self, dataset: Dataset, split: Split, seed: int) -> None:
        self.seed = seed
        self.dataset = dataset
        self.y = split.y
        self.queries = dataset.descriptors[split.queries]
        self.database = dataset.descriptors[split.database]
        same = split.training is split.database
        self.training = self.database if same else dataset.descriptors[split.training]
        self.query_labels = dataset.targets[split.queries]
        self.labels = dataset.targets[split.database]
        self.neighbours = nearest(self.queries, self.database, NEIGHBOURS)
        self.harmonic = harmonic_numbers(len(self.database))
        self.sheet_queries = sheet_queries(split.query_classes)
        privileged = dataset.privileged
        self.privileged = None if privileged is None else privileged[split.training]
        self._teachers: list[tuple[bool, Teacher]] = []

    def teacher(self, net: TrainedNet, *, privileged: bool) -> Teacher:
        """Return the teacher of a net, which all nets with the same parameters share."""
        wanted = net.new_teacher()
        for with_privileged, teacher in self._teachers:
            if teacher == wanted and with_privileged == privileged:
                return teacher
        wanted.fit(self.training, self.y, self.privileged if privileged else None)
        self._teachers.append((privileged, wanted))
        return wanted


@dataclass(frozen=True)
class Measured:
    """The figures of one row on one split.

    Queries without a relevant item are left out of all means but that of neighbours.

    Attributes
    ----------
    precisions : (q,) float64
        Average precision of each query; NaN without a relevant item.
    figures : dict
        Means over queries in 0 to 1, seconds, bytes; None for a figure that does not apply.
    curve : (k, 2) float64
        Recall and precision at `curve_ranks`.
    sheet : (s, SHEET) intp
        Positions in the database of the first neighbours of the queries on the sheet.
    radius_curve : (n_bits + 1,) float64, or None without codes
        Precision within each Hamming radius from 0; a query that finds nothing counts as 0.
    tuned : dict or None
        The parameters that were chosen for the method; None if none were.
    """

    precisions: Reals
    figures: Figures
    curve: NDArray[np.float64]
    sheet: Positions
    radius_curve: Reals | None = None
    tuned: dict[str, Any] | None = None


def measure(row: Row, task: Task, *, search: bool = False) -> Measured:
    """Measure a row on a split; InvalidInput if the method cannot be fitted to it.

    Parameters
    ----------
    row : Row
    task : Task
    search : bool
        Choose the method's parameters first, on a part of the labels that `fit` sees.
    """
    if row.method in _VECTORS:
        return _measure_vectors(row.method, task)
    if row.method == CLASSIFIER:
        return _measure_codes(OneHotClassifier(task.seed), task)
    dataset = task.dataset if row.privileged else task.dataset.without_privileged()
    if row.privileged and dataset.privileged is None:
        raise InvalidInput(f"{row.method} needs privileged features, which {dataset.name} lacks")
    fixed = {"n_bits": row.n_bits, "random_state": task.seed}
    given = dataset.parameters(row.hasher)
    tuned = tune(row, task.training, task.y, task.seed, given) if search else None
    hasher = make_hasher(row.hasher, **fixed, **given, **(tuned or {}))
    return replace(_measure_codes(hasher, task, privileged=row.privileged), tuned=tuned)


def curve_ranks(n: int) -> NDArray[np.int64]:
    """Return the ranks at which the curve is measured: from 1 to n, denser at the front."""
    return np.unique(np.geomspace(1, n, 60).astype(np.int64))


def sheet_queries(query_classes: NDArray[np.int64]) -> Positions:
    """Return the positions, among the queries, of those on the sheet: the first of each class."""
    return np.unique(query_classes, return_index=True)[1][:SHEET]


def _measure_codes(
    hasher: Hasher | OneHotClassifier, task: Task, *, privileged: bool = False
) -> Measured:
    start = time.perf_counter()
    reused = _fit(hasher, task, privileged=privileged)
    fitted = time.perf_counter()
    codes = hasher.encode(task.database)
    encoded = time.perf_counter()
    query_codes = hasher.encode(task.queries)
    rankings, by_neighbours = rank_codes(
        query_codes, task.query_labels, codes, task.labels, task.neighbours
    )
    radius_curve, radius_figures = _within_radii(rankings, hasher.n_bits)
    figures: Figures = {
        "map_asymmetric": _map_asymmetric(hasher, codes, task),
        **radius_figures,
        "recall_neighbours_100": _recall_neighbours([by_neighbours], task),
        "fit_seconds": fitted - start + reused,
        "encode_seconds": encoded - fitted,
        "bytes_per_item": code_size(hasher.n_bits),
    }
    distances = hamming(query_codes[task.sheet_queries], codes)
    sheet = np.argsort(distances, axis=1, kind="stable")[:, :SHEET]
    return _measured([rankings], figures, sheet, task, radius_curve)


def _fit(hasher: Hasher | OneHotClassifier, task: Task, *, privileged: bool) -> float:
    """Fit a hasher; return the seconds saved because its teacher had been fitted before."""
    if not isinstance(hasher, TrainedNet):
        hasher.fit(task.training, task.y)
        return 0.0
    check_torch(hasher.method)
    start = time.perf_counter()
    teacher = task.teacher(hasher, privileged=privileged)
    reused = max(0.0, teacher.seconds_ - (time.perf_counter() - start))
    hasher.fit(task.training, task.y, teacher=teacher)
    return reused


def _map_asymmetric(hasher: Hasher | OneHotClassifier, codes: Codes, task: Task) -> float:
    """Mean average precision where queries are not rounded to bits."""
    projections = hasher.project(task.queries)
    rankings = rank_asymmetric(projections, task.query_labels, codes, task.labels)
    return mean(np.concatenate([one.average_precision(task.harmonic) for one in rankings]))


def _within_radii(rankings: TiedRankings, n_bits: int) -> tuple[Reals, Figures]:
    """Return the precision within each Hamming radius, and the figures at RADIUS."""
    n_relevant = rankings.relevant.sum(axis=1)
    counted = n_relevant > 0
    found = rankings.items[counted, : n_bits + 1].cumsum(axis=1)
    relevant = rankings.relevant[counted, : n_bits + 1].cumsum(axis=1)
    curve = (relevant / np.maximum(found, 1)).mean(axis=0)
    at = min(RADIUS, n_bits)
    return curve, {
        "precision_radius_2": float(curve[at]),
        "recall_radius_2": float((relevant[:, at] / n_relevant[counted]).mean()),
        "empty_radius_2": float((found[:, at] == 0).mean()),
    }


def _recall_neighbours(rankings: Iterable[TiedRankings], task: Task) -> float:
    """Return the share of the first NEIGHBOURS items that are true neighbours."""
    k = min(NEIGHBOURS, len(task.database))
    return float(np.mean([one.relevant_in_first(np.array([k])).mean() for one in rankings])) / k


def _measure_vectors(method: str, task: Task) -> Measured:
    def blocks(queries: NDArray[np.float32]) -> Blocks:
        return _VECTORS[method](queries, task.database)

    found = rank_by_neighbours(blocks(task.queries), task.neighbours)
    figures: Figures = {
        "map_asymmetric": None,
        "precision_radius_2": None,
        "recall_radius_2": None,
        "empty_radius_2": None,
        # All of them, by definition, if the distance is the one that makes them neighbours.
        "recall_neighbours_100": 1.0 if method == RAW else _recall_neighbours(found, task),
        "fit_seconds": 0.0,
        "encode_seconds": 0.0,
        "bytes_per_item": task.database.dtype.itemsize * task.database.shape[1],
    }
    sheet = [
        np.argsort(distances, axis=1, kind="stable")[:, :SHEET]
        for _, distances in blocks(task.queries[task.sheet_queries])
    ]
    rankings = rank_by_label(blocks(task.queries), task.query_labels, task.labels)
    return _measured(rankings, figures, np.concatenate(sheet), task)


def _measured(
    rankings: Iterable[TiedRankings],
    figures: Figures,
    sheet: Positions,
    task: Task,
    radius_curve: Reals | None = None,
) -> Measured:
    """Add the figures that codes and vectors have in common, and the curve."""
    n = len(task.database)
    ranks = curve_ranks(n)
    parts = [
        (
            ranking.average_precision(task.harmonic),
            ranking.average_precision_in_first(min(FIRST, n), task.harmonic),
            ranking.relevant_in_first(np.concatenate([ranks, [100, 1000]])),
            ranking.relevant.sum(axis=1),
        )
        for ranking in rankings
    ]
    precisions, first, found, relevant = (np.concatenate(each) for each in zip(*parts, strict=True))
    counted = relevant > 0
    figures |= {
        "map_5000": mean(first) if n > FIRST else None,
        "precision_100": float(found[counted, -2].mean()) / min(100, n),
        "precision_1000": float(found[counted, -1].mean()) / min(1000, n),
    }
    recall = found[counted, :-2] / relevant[counted, None]
    precision = found[counted, :-2] / ranks
    curve = np.stack([recall.mean(axis=0), precision.mean(axis=0)], axis=1)
    return Measured(precisions, figures, curve, sheet, radius_curve)
