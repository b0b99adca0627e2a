"""Search for the true neighbours: as many candidates are compared as the error bound requires."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words
from index.callbacks import Checkpoint
from index.memory.factors import factors_of
from index.memory.view import Mask, View
from index.search.estimate import (
    Part,
    Terms,
    check_terms,
    hamming_distances,
    least_score,
    nearest,
    parts_of,
)
from index.search.order import by_value_and_id
from index.storage.catalog import Metric
from index.types import Answer, Certificate

# Candidates that are compared at once, and those that the first scan returns.
_STEP = 64
_FIRST = 512
# The square of an item's distance from the centre is its offset times this.
_SQUARES = {"euclidean": -4.0, "cosine": -2.0}

Distances = Callable[[int, NDArray[np.int64]], NDArray[np.float64]]
"""Returns the distances of a query, by its place, to the descriptors of rows."""


class Confidence(NamedTuple):
    """A probability, and the epsilon that an error exceeds to one side with the rest of it."""

    probability: float
    epsilon: float


def search(
    view: View,
    queries: Words,
    terms: Terms,
    metric: Metric,
    k: int,
    confidence: Confidence,
    mask: Mask | None,
    distances: Distances,
    checkpoint: Checkpoint,
) -> tuple[list[Answer], list[NDArray[np.float64]]]:
    """Return the k nearest rows by distances, not by estimates, and these distances.

    Candidates are compared in the order of their estimates, until no other item can be among the k
    nearest unless its estimate is off by more than epsilon allows. Each of the k nearest is
    therefore found with at least the probability of `confidence`.

    Parameters
    ----------
    view, queries, terms, metric, k, mask, checkpoint
        As in `estimate.search`.
    confidence : Confidence
    distances : callable
    """
    check_terms(terms, len(queries), view.segment.n_bits)
    parts = parts_of(view, mask)
    looked = sum(part.n_allowed for part in parts)
    answers, scores = [], []
    for place, first in enumerate(nearest(view, parts, terms, max(2 * k, _FIRST), checkpoint)):
        query = _Query(view, parts, terms, place, metric, confidence.epsilon)
        rows, exact = query.compare(k, first.rows, first.scores, distances, checkpoint)
        order = by_value_and_id(view, exact, rows)
        rows, exact = rows[order], exact[order]
        n = min(k, len(rows))
        certificate = Certificate(
            exact=len(rows) == looked,
            radius=view.segment.n_bits,
            looked=looked,
            tie=int(np.count_nonzero(exact == exact[n - 1])) if n else 0,
            ranking="estimate",
            confidence=confidence.probability,
            reranked=len(rows),
        )
        hamming = hamming_distances(queries[place], view.words(rows[:n]), view.segment.n_bits)
        answers.append(Answer(rows[:n], hamming, certificate))
        scores.append(exact[:n])
    return answers, scores


class _Query:
    """One query, and which rows can be among its nearest."""

    def __init__(
        self,
        view: View,
        parts: list[Part],
        terms: Terms,
        place: int,
        metric: Metric,
        epsilon: float,
    ) -> None:
        self._view, self._parts, self._terms = view, parts, terms
        self._place, self._metric, self._epsilon = place, metric, epsilon
        self._length = float(terms.lengths[place])
        self._rounding = float(terms.roundings[place])

    def compare(
        self,
        k: int,
        rows: NDArray[np.int64],
        scores: NDArray[np.float32],
        distances: Distances,
        checkpoint: Checkpoint,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the rows that have to be compared, and their distances.

        `rows` and `scores` are those of the highest scores, in descending order.
        """
        is_all = len(rows) == sum(part.n_allowed for part in self._parts)
        compared, exact = [np.empty(0, np.int64)], [np.empty(0)]
        best, kth = np.empty(0), np.inf  # The k smallest distances so far, and the largest of them.
        rest = np.arange(len(rows))
        while len(rest):
            checkpoint()
            some, rest = np.split(rest, [max(k if len(best) < k else 0, _STEP)])
            compared.append(rows[some])
            exact.append(distances(self._place, rows[some]))
            best = np.concatenate([best, exact[-1]])
            if len(best) >= k:
                best = np.partition(best, k - 1)[:k]
                if best[-1] < kth:
                    kth = float(best[-1])
                    rest = rest[self._may_be_within(kth, rows[rest], scores[rest])]
            if not len(rest) and not is_all and scores[-1] >= self._least(kth):
                (rows, scores), is_all = self._above(kth), True
                rest = np.flatnonzero(~np.isin(rows, np.concatenate(compared)))
                rest = rest[self._may_be_within(kth, rows[rest], scores[rest])]
        return np.concatenate(compared), np.concatenate(exact)

    def _least(self, distance: float) -> float:
        """Return a score that no row within a distance falls below, as far as epsilon allows."""
        error = max(part.scan.largest_error for part in self._parts) * self._length
        rounding = max(part.scan.largest_scale for part in self._parts) * self._rounding
        return least_score(
            self._terms, self._place, distance, self._metric
        ) - self._epsilon * float(np.hypot(error, rounding))

    def _above(self, distance: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return all rows, by descending score, that may be within a distance."""
        least, vector = self._least(distance), self._terms.vectors[self._place]
        below = float(np.nextafter(np.float32(least), np.float32(-np.inf)))
        found = [part.scan.above(vector, below, part.allowed) for part in self._parts]
        rows = np.concatenate(
            [row + part.first for (row, _), part in zip(found, self._parts, strict=True)]
        )
        scores = np.concatenate([score for _, score in found])
        order = np.argsort(-scores, kind="stable")
        return rows[order], scores[order]

    def _may_be_within(
        self, distance: float, rows: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Return which rows may be within a distance, as far as epsilon allows.

        An error is proportional to the part of the query that is orthogonal to the item. It is the
        smaller, the nearer they are; at the given distance, it is known.
        """
        factors = factors_of(self._view.words(rows), self._view.segment.n_bits)
        scale, offset, error = factors.T
        inner = least_score(self._terms, self._place, distance, self._metric) - offset
        across = np.full(len(rows), self._length**2)
        if self._metric in _SQUARES:
            square = _SQUARES[self._metric] * offset
            along = np.divide(inner**2, square, out=np.zeros(len(rows)), where=square > 0)
            across -= np.where(inner > 0, along, 0)
        spread = np.hypot(error * np.sqrt(np.maximum(across, 0)), scale * self._rounding)
        may_be: NDArray[np.bool_] = scores - offset >= inner - self._epsilon * spread
        return may_be
