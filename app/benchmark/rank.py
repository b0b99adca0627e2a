"""Rank a database for each query: by Hamming, asymmetric, Euclidean or cosine distance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.benchmark.tied_rankings import TiedRankings
from bitcodes import Codes, asymmetric_distances, hamming, unpack
from hashing.labels import Labels, share_a_label
from hashing.validation import InvalidInput

Positions = NDArray[np.intp]
Blocks = Iterable[tuple[slice, NDArray[np.float64]]]
"""Blocks of queries, each with its distances to the database."""

# Distances computed at a time, queries times database items: a few bytes each.
_BLOCK_DISTANCES = 1 << 22
# Longest code, in bytes: twice its largest distance still fits in 16 bits.
_MAX_CODE_BYTES = 4000


def rank_codes(
    query_codes: Codes,
    query_labels: Labels,
    db_codes: Codes,
    db_labels: Labels,
    neighbours: Sequence[Positions] | None = None,
) -> tuple[TiedRankings, TiedRankings]:
    """Rank by Hamming distance, with two senses of relevance: labels and neighbours.

    Only counts at each distance are taken: nothing is sorted, and the result does not depend on
    the order of the database.

    Parameters
    ----------
    query_codes : (q, size) uint8
        Packed codes.
    query_labels : (q,) int64 or (q, c) bool
        An item is relevant to the queries with which it shares a label.
    db_codes : (m, size) uint8
    db_labels : (m,) int64 or (m, c) bool
    neighbours : q arrays of int, optional
        For each query, the positions in the database of the items that are relevant in the second
        sense.

    Returns
    -------
    by_label : TiedRankings
        One group for each distance from 0 to 8 · size.
    by_neighbours : TiedRankings
        The same groups, where the neighbours are relevant; without neighbours nothing is.

    Raises
    ------
    InvalidInput
        Shapes do not match, or codes are longer than 4,000 bytes.
    """
    _check_shapes(query_codes, query_labels, db_codes, db_labels)
    if db_codes.shape[1] > _MAX_CODE_BYTES:
        raise InvalidInput(
            f"codes must have at most {_MAX_CODE_BYTES} bytes, got {db_codes.shape[1]}"
        )
    groups = 8 * db_codes.shape[1] + 1
    counts = np.empty((len(query_codes), groups, 2), np.int64)
    neighbour_counts = np.zeros((len(query_codes), groups), np.int64)
    for block in _blocks(len(query_codes), len(db_codes)):
        # Distance and relevance go into one number, so that one pass counts both.
        keys = hamming(query_codes[block], db_codes)
        if neighbours is not None:
            for i, row in enumerate(keys, block.start):
                neighbour_counts[i] = np.bincount(row[neighbours[i]], minlength=groups)
        keys *= 2
        keys += share_a_label(query_labels[block], db_labels)
        for i, row in enumerate(keys, block.start):
            counts[i] = np.bincount(row, minlength=2 * groups).reshape(groups, 2)
    items = counts.sum(axis=2)
    return TiedRankings(items, counts[:, :, 1]), TiedRankings(items, neighbour_counts)


def rank_asymmetric(
    projections: NDArray[np.floating], query_labels: Labels, db_codes: Codes, db_labels: Labels
) -> Iterator[TiedRankings]:
    """Rank by asymmetric distance, one query at a time: real-valued queries, binary items.

    The distance of a query z to the bits b of an item is Σ_i -z_i if b_i is set and +z_i if not.
    It orders items as the Euclidean distance of z to the bits as ±1 does (A. Gordo, F. Perronnin,
    Y. Gong, S. Lazebnik, "Asymmetric Distances for Binary Embeddings", PAMI 2014). Deviation: the
    paper learns what a bit stands for, the mean of the projections on its side of the threshold.
    Here it is always -1 or 1, so that codes need nothing but themselves.

    Parameters
    ----------
    projections : (q, n_bits)
        The result of `Hasher.project`: bit i of a query's code is z_i > 0.
    query_labels, db_codes, db_labels
        As for `rank_codes`.

    Yields
    ------
    TiedRankings
        Of one query, with as many groups as it needs.
    """
    bits = unpack(db_codes, projections.shape[1]).astype(np.float64)
    _check_shapes(projections, query_labels, bits, db_labels)
    blocks = (
        (block, _rounded(asymmetric_distances(projections[block], bits)))
        for block in _blocks(len(projections), len(db_codes))
    )
    return rank_by_label(blocks, query_labels, db_labels)


def rank_euclidean(
    queries: NDArray[np.floating], query_labels: Labels, db: NDArray[np.floating], db_labels: Labels
) -> Iterator[TiedRankings]:
    """Rank by Euclidean distance, one query at a time; equal distances are ties.

    Parameters
    ----------
    queries : (q, d)
    db : (m, d)
    query_labels, db_labels
        As for `rank_codes`.

    Yields
    ------
    TiedRankings
        Of one query, with as many groups as it needs.
    """
    _check_shapes(queries, query_labels, db, db_labels)
    return rank_by_label(euclidean_distances(queries, db), query_labels, db_labels)


def rank_by_label(
    blocks: Blocks, query_labels: Labels, db_labels: Labels
) -> Iterator[TiedRankings]:
    """Rank by distances, one query at a time; items that share a label are relevant."""
    for block, distances in blocks:
        relevant = share_a_label(query_labels[block], db_labels)
        for row, row_relevant in zip(distances, relevant, strict=True):
            yield _rank_one(row, row_relevant)


def rank_by_neighbours(blocks: Blocks, neighbours: Sequence[Positions]) -> Iterator[TiedRankings]:
    """Rank by distances, one query at a time; its neighbours are relevant."""
    for block, distances in blocks:
        for row, near in zip(distances, neighbours[block], strict=True):
            relevant = np.zeros(len(row), bool)
            relevant[near] = True
            yield _rank_one(row, relevant)


def euclidean_distances(queries: NDArray[np.floating], db: NDArray[np.floating]) -> Blocks:
    """Yield squared Euclidean distances of (q, d) to (m, d), minus ‖q‖², in blocks of queries.

    They are float64, rounded to a multiple of 1e-13 of the largest square, so that the rounding
    of the matrix product does not break the ties of duplicates. ‖q‖², the same for all items, is
    left out: it does not change a query's ranking.
    """
    center = db.mean(axis=0, dtype=np.float64)
    db, queries = db - center, queries - center
    squares = np.einsum("ij,ij->i", db, db)
    for block in _blocks(len(queries), len(db)):
        distances = queries[block] @ db.T
        distances *= -2
        distances += squares
        yield block, _rounded(distances, float(squares.max(initial=0)))


def cosine_distances(queries: NDArray[np.floating], db: NDArray[np.floating]) -> Blocks:
    """Yield the cosines of (q, d) and (m, d), negated and rounded, in blocks of queries.

    They are of the vectors as they are, not centred. A zero vector has the cosine 0.
    """
    queries, db = unit(queries), unit(db)
    for block in _blocks(len(queries), len(db)):
        yield block, _rounded(-(queries[block] @ db.T), 1.0)


def nearest(
    queries: NDArray[np.floating],
    db: NDArray[np.floating],
    k: int,
    distances: Callable[..., Blocks] = euclidean_distances,
) -> list[Positions]:
    """Return the positions of the k nearest items, for each query, by Euclidean distance.

    There are more than k if several items tie at the distance of the k-th: all of them count. The
    order of the positions is undefined. `distances` is `euclidean_distances` or `cosine_distances`.
    """
    k = min(k, len(db))
    return [
        np.flatnonzero(row <= np.partition(row, k - 1)[k - 1])
        for _, block in distances(queries, db)
        for row in block
    ]


def unit(X: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rows scaled to length 1; a zero row stays zero."""
    X = X.astype(np.float64)
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(norms > 0, norms, 1))


def _rank_one(distances: NDArray[np.float64], relevant: NDArray[np.bool_]) -> TiedRankings:
    """Rank for one query; items that are not relevant, between two that are, share a group."""
    ordered = np.sort(distances)
    values, n_relevant = np.unique(distances[relevant], return_counts=True)
    first = np.searchsorted(ordered, values, "left")
    last = np.searchsorted(ordered, values, "right")
    # Groups alternate: one without relevant items, then one at a distance that has some.
    edges = np.concatenate([[0], np.stack([first, last], axis=1).ravel(), [len(distances)]])
    items = np.diff(edges)
    counts = np.zeros_like(items)
    counts[1::2] = n_relevant
    return TiedRankings(items[None], counts[None])


def _rounded(distances: NDArray[np.float64], largest: float = 0.0) -> NDArray[np.float64]:
    """Round in place to steps of 1e-13 of the largest, so that matrix products keep ties."""
    step = 1e-13 * max(float(np.abs(distances).max(initial=0)), largest)
    if step > 0:
        distances /= step
        np.rint(distances, out=distances)
    return distances


def _blocks(n: int, m: int) -> Iterator[slice]:
    """Slices of n queries, so that each block has about `_BLOCK_DISTANCES` distances to m items."""
    step = max(1, _BLOCK_DISTANCES // max(1, m))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _check_shapes(
    queries: NDArray[Any], query_labels: Labels, db: NDArray[Any], db_labels: Labels
) -> None:
    for name, rows, labels in (("query", queries, query_labels), ("database", db, db_labels)):
        if rows.ndim != 2 or len(labels) != len(rows):
            raise InvalidInput(
                f"expected a {name} matrix and one label per row, or a row of labels, got shapes "
                f"{rows.shape} and {labels.shape}"
            )
    if queries.shape[1] != db.shape[1]:
        raise InvalidInput(
            f"queries have {queries.shape[1]} columns and the database has {db.shape[1]}"
        )
