"""What a ranking by codes, or by Euclidean distance, is worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.benchmark.ranking import Ranking, Reals, harmonic_numbers
from bitcodes import Codes, asymmetric_distances, hamming, unpack
from hashing.validation import InvalidInput

Labels = NDArray[np.integer[Any]]
Positions = NDArray[np.intp]

# Distances held at a time: queries times database, a few bytes each.
_BLOCK_DISTANCES = 1 << 22
# Bytes of a code whose distances, doubled, fit in 16 bits.
_LONGEST = 4000


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


def mean(precisions: Reals) -> float:
    """Mean over queries, those without a relevant item (NaN) left out."""
    counted = precisions[~np.isnan(precisions)]
    if not counted.size:
        raise InvalidInput(f"none of the {len(precisions)} queries has a relevant item")
    return float(counted.mean())


def average_precision(
    query_codes: Codes, query_labels: Labels, db_codes: Codes, db_labels: Labels
) -> Reals:
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
    ranking, _ = rank_codes(query_codes, query_labels, db_codes, db_labels)
    return ranking.average_precision(harmonic_numbers(len(db_codes)))


def rank_codes(
    query_codes: Codes,
    query_labels: Labels,
    db_codes: Codes,
    db_labels: Labels,
    neighbours: Positions | None = None,
) -> tuple[Ranking, Ranking]:
    """The ranking by Hamming distance with the relevance of labels.

    Parameters
    ----------
    query_codes, query_labels, db_codes, db_labels
        As for `average_precision`.
    neighbours : (q, k) int, optional
        Positions in the database of what is relevant in a second sense.

    Returns
    -------
    by_label : Ranking
        A group for each distance from 0 to 8 · size.
    by_neighbours : Ranking
        The same items with the second relevance; nothing is relevant where none was given.
    """
    _check(query_codes, query_labels, db_codes, db_labels)
    if db_codes.shape[1] > _LONGEST:
        raise InvalidInput(f"codes have at most {_LONGEST} bytes, got {db_codes.shape[1]}")
    groups = 8 * db_codes.shape[1] + 1
    counts = np.empty((len(query_codes), groups, 2), np.int64)
    near = np.zeros((len(query_codes), groups), np.int64)
    for rows in _blocks(len(query_codes), len(db_codes)):
        # Distance and relevance in one number, so that one count gives both.
        keys = hamming(query_codes[rows], db_codes)
        if neighbours is not None:
            at = np.take_along_axis(keys, neighbours[rows], axis=1)
            near[rows] = [np.bincount(distances, minlength=groups) for distances in at]
        keys *= 2
        keys += _relevant(query_labels[rows], db_labels)
        for i, key in enumerate(keys, rows.start):
            counts[i] = np.bincount(key, minlength=2 * groups).reshape(groups, 2)
    items = counts.sum(axis=2)
    return Ranking(items, counts[:, :, 1]), Ranking(items, near)


def euclidean_distances(
    queries: NDArray[np.floating], db: NDArray[np.floating]
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Squared Euclidean distances of (q, d) to (m, d), less ‖q‖², a block of queries at a time.

    In float64, rounded to a multiple of 1e-13 of the largest square, so that the rounding of the
    product does not break the ties of duplicates.
    """
    center = db.mean(axis=0, dtype=np.float64)
    db, queries = db - center, queries - center
    squares = np.einsum("ij,ij->i", db, db)
    for rows in _blocks(len(queries), len(db)):
        # ‖q‖² is the same for all that one query ranks.
        distances = queries[rows] @ db.T
        distances *= -2
        distances += squares
        yield rows, _rounded(distances, float(squares.max(initial=0)))


def average_precision_euclidean(
    queries: NDArray[np.floating], query_labels: Labels, db: NDArray[np.floating], db_labels: Labels
) -> Reals:
    """Average precision of ranking by Euclidean distance of (q, d) to (m, d), for each query.

    Equal distances are a tie; labels and the result as for `average_precision`.
    """
    harmonic = harmonic_numbers(len(db))
    rankings = rank_euclidean(queries, query_labels, db, db_labels)
    return np.array([ranking.average_precision(harmonic)[0] for ranking in rankings])


def rank_euclidean(
    queries: NDArray[np.floating], query_labels: Labels, db: NDArray[np.floating], db_labels: Labels
) -> Iterator[Ranking]:
    """The ranking by Euclidean distance of each query in turn: as many groups as it needs."""
    _check(queries, query_labels, db, db_labels)
    for rows, distances in euclidean_distances(queries, db):
        relevant = _relevant(query_labels[rows], db_labels)
        for distance, hit in zip(distances, relevant, strict=True):
            yield _rank(distance, hit)


def rank_asymmetric(
    projections: NDArray[np.floating], query_labels: Labels, db_codes: Codes, db_labels: Labels
) -> Iterator[Ranking]:
    """The ranking by asymmetric distance of each query in turn: real-valued query, binary items.

    The order is that of Σ_i ∓z_i, minus where bit i of the item is set: as by the Euclidean
    distance of z to the bits as ±1 (Gordo et al., "Asymmetric Distances for Binary Embeddings",
    PAMI 2014, with thresholds at zero).

    Parameters
    ----------
    projections : (q, n_bits)
        What `Hasher.project` gives: bit i of the query is z_i > 0.
    query_labels, db_codes, db_labels
        As for `average_precision`.
    """
    bits = unpack(db_codes, projections.shape[1]).astype(np.float64)
    _check(projections, query_labels, bits, db_labels)
    for rows in _blocks(len(projections), len(db_codes)):
        relevant = _relevant(query_labels[rows], db_labels)
        distances = _rounded(asymmetric_distances(projections[rows], bits))
        for distance, hit in zip(distances, relevant, strict=True):
            yield _rank(distance, hit)


def nearest(queries: NDArray[np.floating], db: NDArray[np.floating], k: int) -> Positions:
    """Positions of the k nearest in the database by Euclidean distance, (q, min(k, m)).

    In no order; which of several equally far is taken at the k-th place is not defined.
    """
    k = min(k, len(db))
    found = np.empty((len(queries), k), np.intp)
    for rows, distances in euclidean_distances(queries, db):
        found[rows] = np.argpartition(distances, k - 1, axis=1)[:, :k]
    return found


def bootstrap_interval(precisions: Reals, seed: int, rounds: int = 1000) -> tuple[float, float]:
    """95 % interval of the mean over queries, by resampling queries; NaN are left out."""
    counted = precisions[~np.isnan(precisions)]
    rng = np.random.default_rng(seed)
    means = [rng.choice(counted, len(counted)).mean() for _ in range(rounds)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _rank(distance: NDArray[np.float64], relevant: NDArray[np.bool_]) -> Ranking:
    """The ranking of one query; only groups that hold something relevant are told apart."""
    ordered = np.sort(distance)
    where, n_relevant = np.unique(distance[relevant], return_counts=True)
    first = np.searchsorted(ordered, where, "left")
    last = np.searchsorted(ordered, where, "right")
    # Each group is followed by all that lies before the next, none of it relevant.
    edges = np.concatenate([[0], np.stack([first, last], axis=1).ravel(), [len(distance)]])
    items = np.diff(edges)
    counts = np.zeros_like(items)
    counts[1::2] = n_relevant
    return Ranking(items[None], counts[None])


def _rounded(distances: NDArray[np.float64], largest: float = 0.0) -> NDArray[np.float64]:
    """In steps of 1e-13 of the largest, so that the rounding of a product breaks no ties."""
    step = 1e-13 * max(float(np.abs(distances).max(initial=0)), largest)
    if step > 0:
        distances /= step
        np.rint(distances, out=distances)
    return distances


def _blocks(n: int, m: int) -> Iterator[slice]:
    step = max(1, _BLOCK_DISTANCES // max(1, m))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


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
