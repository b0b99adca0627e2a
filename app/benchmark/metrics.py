"""Mean average precision over the whole ranking, exact where distances tie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.base import InvalidInput
from hashing.codes import Codes, hamming

Counts = NDArray[np.int64]
Labels = NDArray[np.integer[Any]]

# Distances held at a time: queries times database, 2 bytes each and some copies.
_BLOCK_DISTANCES = 1 << 22


def mean_average_precision(
    query_codes: Codes, query_labels: Labels, db_codes: Codes, db_labels: Labels
) -> float:
    """Mean of `average_precision` over the queries that have a relevant item, in 0 to 1.

    Raises
    ------
    InvalidInput
        As `average_precision`, and when no query has a relevant item.
    """
    return mean(average_precision(query_codes, query_labels, db_codes, db_labels))


def mean(precisions: NDArray[np.float64]) -> float:
    """Mean over queries, those without a relevant item (NaN) left out."""
    counted = precisions[~np.isnan(precisions)]
    if not counted.size:
        raise InvalidInput(f"none of the {len(precisions)} queries has a relevant item")
    return float(counted.mean())


def average_precision(
    query_codes: Codes, query_labels: Labels, db_codes: Codes, db_labels: Labels
) -> NDArray[np.float64]:
    """Average precision of ranking the database by Hamming distance, for each query.

    Where distances tie, it is the expectation over every order of the tied items, in closed form
    from the counts at each distance: nothing is sorted and the order of the database is nothing.

    Parameters
    ----------
    query_codes : (q, size) uint8
        Packed codes.
    query_labels : (q,) int
        An item is relevant to a query of the same label; -1 is relevant to nothing.
    db_codes : (m, size) uint8
    db_labels : (m,) int

    Returns
    -------
    (q,) float64
        In 0 to 1; NaN for a query with no relevant item.

    References
    ----------
    F. McSherry, M. Najork, "Computing Information Retrieval Performance Measures Efficiently in
    the Presence of Tied Scores", ECIR 2008, section 2. Deviation: the sum over the places of
    a tie is written with harmonic numbers.
    """
    _check(query_codes, query_labels, db_codes, db_labels)
    n_distances = 8 * db_codes.shape[1] + 1
    harmonic = _harmonic(len(db_codes))
    precisions = np.empty(len(query_codes))
    step = max(1, _BLOCK_DISTANCES // max(1, len(db_codes)))
    for start in range(0, len(query_codes), step):
        rows = slice(start, start + step)
        # Distance and relevance in one number, so that one count gives both.
        keys = hamming(query_codes[rows], db_codes)
        keys *= 2
        keys += _relevant(query_labels[rows], db_labels)
        counts = np.stack([np.bincount(key, minlength=2 * n_distances) for key in keys])
        counts = counts.reshape(len(keys), n_distances, 2)
        relevant = counts[:, :, 1]
        at = counts.sum(axis=2)
        precisions[rows] = _expected(
            at.cumsum(axis=1) - at, at, relevant.cumsum(axis=1) - relevant, relevant, harmonic
        )
    return precisions


def average_precision_euclidean(
    queries: NDArray[np.floating], query_labels: Labels, db: NDArray[np.floating], db_labels: Labels
) -> NDArray[np.float64]:
    """Average precision of ranking by Euclidean distance of (q, d) to (m, d), for each query.

    Equal distances are a tie, as in `average_precision`, and labels and the result as there.
    Squared distances are computed in float64 and compared in float32, so that rounding does not
    break the ties of duplicates.
    """
    _check(queries, query_labels, db, db_labels)
    center = db.mean(axis=0, dtype=np.float64)
    db, queries = db - center, queries - center
    squares = np.einsum("ij,ij->i", db, db)
    harmonic = _harmonic(len(db))
    precisions = np.empty(len(queries))
    step = max(1, _BLOCK_DISTANCES // max(1, len(db)))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        # ‖q‖² is the same for all that one query ranks.
        distances = (squares - 2 * (queries[rows] @ db.T)).astype(np.float32)
        relevant = _relevant(query_labels[rows], db_labels)
        for i, (distance, hit) in enumerate(zip(distances, relevant, strict=True), start):
            at = np.sort(distance)
            where, r = np.unique(distance[hit], return_counts=True)
            first = np.searchsorted(at, where, "left")
            n = np.searchsorted(at, where, "right") - first
            precisions[i] = _expected(first, n, r.cumsum() - r, r, harmonic)
    return precisions


def _expected(
    n_before: Counts, n: Counts, r_before: Counts, r: Counts, harmonic: NDArray[np.float64]
) -> Any:
    """Expected average precision from ties along the last axis, NaN where nothing is relevant.

    A tie of n items, r of them relevant, behind N items, R of them relevant: its place j holds a
    relevant item with probability r / n, and then R + 1 + (j - 1) (r - 1) / (n - 1) relevant items
    are expected among the first N + j. Summed over j = 1..n, with H the harmonic numbers and
    D = H(N + n) - H(N), that is r / n · ((R + 1) D + (r - 1) / (n - 1) · (n - (N + 1) D)).
    """
    D = harmonic[n_before + n] - harmonic[n_before]
    # A tie without relevant items has r = 0 and adds nothing, whatever else is here.
    share = (r - 1) / np.maximum(n - 1, 1)
    gains = r / np.maximum(n, 1) * ((r_before + 1) * D + share * (n - (n_before + 1) * D))
    n_relevant = r.sum(axis=-1)
    return np.where(n_relevant > 0, gains.sum(axis=-1) / np.maximum(n_relevant, 1), np.nan)


def _harmonic(n: int) -> NDArray[np.float64]:
    """H(0) to H(n)."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])


def _relevant(query_labels: Labels, db_labels: Labels) -> NDArray[np.bool_]:
    """(q, m): the same label, and not that of the unlabelled."""
    column = query_labels[:, None]
    relevant: NDArray[np.bool_] = (column == db_labels) & (column >= 0)
    return relevant


def _check(
    queries: NDArray[Any], query_labels: Labels, db: NDArray[Any], db_labels: Labels
) -> None:
    for name, rows, labels in (("query", queries, query_labels), ("database", db, db_labels)):
        if rows.ndim != 2 or labels.shape != (len(rows),):
            raise InvalidInput(
                f"expected a {name} matrix and one label a row, got shapes {rows.shape} and "
                f"{labels.shape}"
            )
    if queries.shape[1] != db.shape[1]:
        raise InvalidInput(
            f"queries have {queries.shape[1]} columns and the database has {db.shape[1]}"
        )
