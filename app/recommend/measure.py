"""Fit candidates and measure them query by query, with the rankings of benchmarks."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.benchmark.averages import mean, resampled_means
from app.benchmark.rank import Blocks, rank_by_label, rank_by_neighbours, rank_codes
from app.benchmark.rows import Row
from app.benchmark.tied_rankings import Reals, TiedRankings
from app.recommend.data import Data, Queries, without_itself
from bitcodes import Codes, code_size, paired_distances
from hashing import Hasher, InvalidInput, make_hasher
from hashing.methods.rabitq import RaBitQ
from hashing.parts.estimate import Metric, estimates

FACTORS = 12
"""Bytes of the factors of an item that is ranked by estimates: three float32."""
_ROUNDS = 1000
# If fewer queries differ from the most frequent value, the bootstrap cannot tell their spread.
_FEW = 10
# Estimated distances in memory at a time.
_ESTIMATES = 1 << 22


def bytes_of(row: Row) -> int:
    """Return how many bytes an item of a candidate has, with what estimates need."""
    return code_size(row.n_bits or 0) + (FACTORS if row.method == RaBitQ.method else 0)


@dataclass(frozen=True)
class Bounds:
    """A mean over queries and its bounds."""

    mean: float
    low: float
    high: float


def bounds(values: Reals, classes: NDArray[np.int64], outside: float) -> Bounds:
    """Return the mean over queries, with bounds that each fail with probability `outside`.

    Their distance is that of a normal distribution with the standard error of the bootstrap over
    queries, which draws class by class: a bootstrap alone has too few draws in its far tails. Where
    all queries but a few have the same value, their spread is not known: the distance is then at
    least that of the exact bound (Clopper, Pearson) of the share of those that differ.
    """
    from scipy.special import betaincinv, ndtri

    centre = mean(values)
    resampled = resampled_means(values, classes, np.random.default_rng(0), _ROUNDS)
    half = float(ndtri(1 - outside) * resampled.std(ddof=1))
    sizes = np.unique(values[~np.isnan(values)], return_counts=True)[1]
    n, few = sizes.sum(), sizes.sum() - sizes.max()
    if few < _FEW:
        half = max(half, float(betaincinv(few + 1, n - few, 1 - outside) - few / n))
    return Bounds(centre, centre - half, centre + half)


@dataclass(frozen=True)
class Fitted:
    """A candidate that has learned, and the codes of the database."""

    hasher: Hasher
    codes: Codes
    factors: NDArray[np.float32] | None
    metric: Metric
    seconds: float


class Measures:
    """What is known of candidates: their values for the first of the choosing queries."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.fitted: dict[Row, Fitted] = {}
        self.values: dict[Row, Reals] = {}
        self.errors: dict[Row, str] = {}

    def measure(self, row: Row, n: int) -> bool:
        """Measure a candidate with the first n queries; return False if it cannot be fitted."""
        if row in self.errors:
            return False
        known = self.values.get(row, np.empty(0))
        if len(known) >= n:
            return True
        try:
            if row not in self.fitted:
                self.fitted[row] = self._fit(row)
        except InvalidInput as error:
            self.errors[row] = str(error)
            return False
        more = self.on(row, self.data.choosing, slice(len(known), n))
        self.values[row] = np.concatenate([known, more])
        return True

    def on(self, row: Row, queries: Queries, part: slice) -> Reals:
        """Return the value of each query in a part: its average precision, or its recall."""
        goal, rankings = self.data.goal, self._rankings(self.fitted[row], queries, part)
        if self.data.uses_labels:
            return np.concatenate([one.average_precision(self.data.harmonic) for one in rankings])
        first = np.array([min(max(goal.k, goal.rerank), self.data.n_searched)])
        found = np.concatenate([one.relevant_in_first(first)[:, 0] for one in rankings])
        # Several items may tie at the k-th true distance: any k of them are right.
        return np.asarray(np.minimum(found / goal.k, 1))

    def gains(self, row: Row) -> Reals:
        """Return what the goal compares with its threshold, for each query that was measured."""
        values = self.values[row]
        raw = self.data.choosing.raw
        return values - raw[: len(values)] if self.data.goal.within is not None else values  # type: ignore[index]

    def _fit(self, row: Row) -> Fitted:
        data, start = self.data, time.perf_counter()
        given = data.dataset.without_privileged().parameters(row.method)
        if row.method == RaBitQ.method:
            given["normalize"] = data.distance == "cosine"
        hasher = make_hasher(row.method, n_bits=row.n_bits, random_state=data.seed, **given)
        hasher.fit(data.X, data.y if data.uses_labels else None)
        seconds = time.perf_counter() - start
        metric: Metric = data.distance
        factors = hasher.factors(data.database, metric) if isinstance(hasher, RaBitQ) else None
        return Fitted(hasher, hasher.encode(data.database), factors, metric, seconds)

    def _rankings(self, fitted: Fitted, queries: Queries, part: slice) -> Iterable[TiedRankings]:
        X, classes = queries.X[part], queries.classes[part]
        near = None if queries.neighbours is None else queries.neighbours[part]
        itself = None if queries.itself is None else queries.itself[part]
        if fitted.factors is None:
            codes = fitted.hasher.encode(X)
            by_label, by_neighbours = rank_codes(
                codes, classes, fitted.codes, self.data.labels, near
            )
            if itself is not None:
                own = paired_distances(codes, fitted.codes[itself])
                by_neighbours.items[np.arange(len(X)), own] -= 1
            return [by_label if near is None else by_neighbours]
        blocks = self._estimates(fitted, fitted.factors, X)
        if itself is not None:
            blocks = without_itself(blocks, itself)
        if near is None:
            return rank_by_label(blocks, classes, self.data.labels)
        return rank_by_neighbours(blocks, near)

    def _estimates(
        self, fitted: Fitted, factors: NDArray[np.float32], X: NDArray[np.float32]
    ) -> Blocks:
        assert isinstance(fitted.hasher, RaBitQ)  # noqa: S101
        step = max(1, _ESTIMATES // len(fitted.codes))
        for first in range(0, len(X), step):
            block = slice(first, min(first + step, len(X)))
            terms = fitted.hasher.query_terms(X[block], fitted.metric)
            yield block, estimates(terms, fitted.codes, factors)
