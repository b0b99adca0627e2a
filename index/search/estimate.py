"""Search by estimated distances: every item is scored, and the nearest are returned."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words, code_size, distances_to, to_codes, to_words
from index.callbacks import Checkpoint
from index.errors import InvalidItems
from index.memory.estimated import THREADS, Scan
from index.memory.factors import factors_of
from index.memory.view import Mask, View
from index.search.order import by_value_and_id
from index.storage.catalog import Metric
from index.types import Answer, Certificate

EPSILON = 1.9
"""Of the error bound in certificates, which about 94 % of the estimates keep."""
LARGEST = 1e15
"""Largest coordinate of a query: its squared length, which a scan needs, then stays in float32."""
# Estimates and, at least, queries of a scan, after which a search looks whether it has to give up:
# about half a second. Many small scans would cost more, as threads wait at the end of each.
SCAN_ESTIMATES = 1 << 25
SCAN_QUERIES = 8 * THREADS


class Terms(Protocol):
    """What queries contribute to estimates: `hashing.parts.estimate.QueryTerms` is one."""

    @property
    def vectors(self) -> NDArray[np.float32]:
        """U of each query, (q, n_bits), rounded to 256 levels."""

    @property
    def constants(self) -> NDArray[np.float64]:
        """The constants, (q,)."""

    @property
    def lengths(self) -> NDArray[np.float64]:
        """The factors of the error, (q,)."""

    @property
    def roundings(self) -> NDArray[np.float64]:
        """How far the vectors were moved by rounding, (q,)."""


class Part(NamedTuple):
    """Rows of a view that are scanned together: of the segment, or of the tail."""

    scan: Scan
    allowed: Mask | None
    first: int

    @property
    def n_allowed(self) -> int:
        """Number of rows that may be found."""
        return len(self.scan) if self.allowed is None else int(np.count_nonzero(self.allowed))


def parts_of(view: View, mask: Mask | None) -> list[Part]:
    """Return the parts of a view, with the live rows that a mask allows."""
    if view.segment.scan is None:
        raise TypeError("the view has no factors")
    n = len(view.segment)
    allowed = view.live
    if mask is not None:
        allowed = mask if allowed is None else mask & allowed
    in_segment, in_tail = (None, None) if allowed is None else (allowed[:n], allowed[n:])
    parts = [Part(view.segment.scan, in_segment, 0)]
    return [*parts, Part(view.tail_scan, in_tail, n)] if len(view.tail) else parts


def search(
    view: View,
    queries: Words,
    terms: Terms,
    metric: Metric,
    k: int,
    max_score: float | None,
    mask: Mask | None,
    checkpoint: Checkpoint,
    *,
    count_within: bool = False,
) -> tuple[list[Answer], list[NDArray[np.float64]]]:
    """Return the k rows of the smallest estimated distances for each query, and these distances.

    Parameters
    ----------
    view : View
    queries : (q, words) uint64
        The codes of the queries, for the Hamming distances.
    terms : Terms
    metric : {"euclidean", "cosine", "dot"}
    k : int
    max_score : float, optional
        Largest estimated distance.
    mask : (rows,) bool, optional
        Rows of the view that may be found. It may allow dead rows, which are never found.
    checkpoint : callable
        Called between the scans. It may raise to give up.
    count_within : bool
        Whether to count the rows within `max_score` where there are more than k.
    """
    n_bits = view.segment.n_bits
    check_terms(terms, len(queries), n_bits)
    parts = parts_of(view, mask)
    looked = sum(part.n_allowed for part in parts)
    answers, distances = [], []
    for query, (rows, scores, tie) in enumerate(nearest(view, parts, terms, k, checkpoint)):
        estimates = _distances(terms, query, scores, metric)
        n_found, within = len(rows), None
        if max_score is not None:
            n_found = int(np.searchsorted(estimates, max_score, side="right"))
            if n_found < k:
                within = n_found
            elif count_within:
                checkpoint()
                within = _count(parts, terms, query, max_score, metric)
        if n_found < len(rows):
            tie = int(np.count_nonzero(scores == scores[n_found - 1])) if n_found else 0
        rows, estimates = rows[:n_found], estimates[:n_found]
        words = view.words(rows)
        bound = _error_bound(words, n_bits, terms, query, estimates, metric)
        certificate = Certificate(
            exact=True,
            radius=n_bits,
            looked=looked,
            tie=tie,
            within=within,
            truncated=None if within is None else within > n_found,
            ranking="estimate",
            error_bound=bound,
        )
        answers.append(Answer(rows, hamming_distances(queries[query], words, n_bits), certificate))
        distances.append(estimates)
    return answers, distances


def hamming_distances(query: Words, words: Words, n_bits: int) -> NDArray[np.int64]:
    """Return the Hamming distances of a query, (words,), to the codes of rows."""
    codes = to_codes(words, code_size(n_bits))
    return distances_to(query, to_words(codes)).astype(np.int64)


def check_terms(terms: Terms, n: int, n_bits: int) -> None:
    """Raise InvalidItems unless these are finite terms of n queries for codes of `n_bits`."""
    arrays = (terms.vectors, terms.constants, terms.lengths, terms.roundings)
    shapes = [array.shape for array in arrays]
    if shapes != [(n, n_bits), (n,), (n,), (n,)]:
        raise InvalidItems(f"expected terms of {n} queries for {n_bits} bits, got shapes {shapes}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise InvalidItems("expected finite terms of the queries")
    largest = float(np.abs(terms.vectors).max(initial=0))
    if largest > LARGEST:
        raise InvalidItems(
            f"a projection of a query is {largest:.3g}; the estimates reach up to {LARGEST:.3g}: "
            "scale the descriptors down"
        )


class Nearest(NamedTuple):
    """The k rows of the highest scores, by descending score, then by id.

    `tie` counts the rows with the score of the last one.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    tie: int


def nearest(
    view: View, parts: list[Part], terms: Terms, k: int, checkpoint: Checkpoint
) -> list[Nearest]:
    """Return the nearest rows of each query by score."""
    found = []
    n_rows = sum(len(part.scan) for part in parts)
    step = max(SCAN_QUERIES, SCAN_ESTIMATES // max(n_rows, 1))
    for first in range(0, len(terms.vectors), step):
        vectors = terms.vectors[first : first + step]
        per_part = []
        for part in parts:
            checkpoint()
            per_part.append(part.scan.nearest(vectors, k, part.allowed))
        for each in zip(*per_part, strict=True):
            rows = np.concatenate(
                [row + part.first for (row, _), part in zip(each, parts, strict=True)]
            )
            scores = np.concatenate([score for _, score in each])
            found.append(_first(view, rows, scores, k))
    return found


def _first(view: View, rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Nearest:
    """Return the k nearest of some rows, among which are all that tie with the last of them."""
    k = min(k, len(rows))
    if not k:
        return Nearest(rows, scores, 0)
    last = np.partition(scores, len(scores) - k)[-k]
    is_last, is_kept = scores == last, scores >= last
    # Of the rows of the segment, which are in the order of their ids, the first k are enough.
    ties = np.flatnonzero(is_last & (rows < len(view.segment)))
    if len(ties) > k:
        is_kept[ties[np.argsort(rows[ties])[k:]]] = False
    tie, rows, scores = int(np.count_nonzero(is_last)), rows[is_kept], scores[is_kept]
    order = by_value_and_id(view, -scores, rows)[:k]
    return Nearest(rows[order], scores[order], tie)


def _distances(
    terms: Terms, query: int, scores: NDArray[np.float32], metric: Metric
) -> NDArray[np.float64]:
    """Return the estimated distances of scores; the Euclidean one, not its square.

    The root of a square below zero is taken of its absolute value and is below zero too, so that
    distances are in the order of the scores, and equal only where these are.
    """
    estimates: NDArray[np.float64] = terms.constants[query] - scores.astype(np.float64)
    if metric != "euclidean":
        return estimates
    return np.copysign(np.sqrt(np.abs(estimates)), estimates)


def least_score(terms: Terms, query: int, distance: float, metric: Metric) -> float:
    """Return the score of an estimated distance."""
    value = distance * abs(distance) if metric == "euclidean" else distance
    return float(terms.constants[query]) - value


def _count(parts: list[Part], terms: Terms, query: int, max_score: float, metric: Metric) -> int:
    least = least_score(terms, query, max_score, metric)
    n = 0
    for part in parts:
        below = float(np.nextafter(np.float32(least), np.float32(-np.inf)))
        _, scores = part.scan.above(terms.vectors[query], below, part.allowed)
        n += int(np.count_nonzero(_distances(terms, query, scores, metric) <= max_score))
    return n


def _error_bound(
    words: Words,
    n_bits: int,
    terms: Terms,
    query: int,
    estimates: NDArray[np.float64],
    metric: Metric,
) -> float:
    """Return how far the distances of found rows may be from their estimates, at most."""
    if not len(words):
        return 0.0
    errors = factors_of(words, n_bits)[:, 2]
    bounds = EPSILON * terms.lengths[query] * errors
    if metric == "euclidean":
        # The bound is about squares.
        squares = estimates * np.abs(estimates)
        below = estimates - np.sqrt(np.maximum(squares - bounds, 0))
        bounds = np.maximum(below, np.sqrt(np.maximum(squares + bounds, 0)) - estimates)
    return float(bounds.max())
