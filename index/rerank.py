"""The nearest by Hamming distance put into a finer order."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from index.errors import InvalidItems
from index.record import Record
from index.search import Answer
from index.view import View
from index.words import bit_places

Scored = tuple[list[Answer], list[NDArray[np.float64]]]


def by_descriptor(
    view: View, answers: list[Answer], queries: ArrayLike, dimension: int | None, record: Record
) -> Scored:
    """By Euclidean distance to the descriptors that the collection keeps, as float16."""
    X = _matrix(queries, len(answers), dimension or np.shape(queries)[-1], "descriptors")
    ordered = []
    for x, answer in zip(X, answers, strict=True):
        kept = record.descriptors(view.serials(answer.rows).tolist()).astype(np.float64)
        ordered.append(_by(np.sqrt(((kept.reshape(-1, len(x)) - x) ** 2).sum(axis=1)), answer))
    return [answer for answer, _ in ordered], [score for _, score in ordered]


def by_bits(view: View, answers: list[Answer], projections: ArrayLike, n_bits: int) -> Scored:
    """By asymmetric distance: the projection of the query, not rounded to bits, to those of items.

    The distance is sum_i |z_i| over the bits i in which the item is on the other side of zero than
    the query, which orders as the Euclidean distance of z to the bits as ±1 does (Gordo et al.,
    "Asymmetric Distances for Binary Embeddings", PAMI 2014, with thresholds at zero).
    """
    Z = _matrix(projections, len(answers), n_bits, "projections")
    places = bit_places(n_bits)
    ordered = []
    for z, answer in zip(Z, answers, strict=True):
        words = view.words(answer.rows)
        bits = (words[:, places // 64] >> (places % 64)) & np.uint64(1)
        ordered.append(_by(((bits == 1) != (z > 0)) @ np.abs(z), answer))
    return [answer for answer, _ in ordered], [score for _, score in ordered]


def _by(score: NDArray[np.float64], answer: Answer) -> tuple[Answer, NDArray[np.float64]]:
    # A stable sort keeps Hamming distance and id as the order of what scores the same.
    order = np.argsort(score, kind="stable")
    return (
        Answer(answer.rows[order], answer.distances[order], answer.certificate),
        score[order],
    )


def _matrix(values: ArrayLike, n: int, width: int, what: str) -> NDArray[np.float64]:
    matrix = np.asarray(values, np.float64)
    if matrix.shape != (n, width) or not np.isfinite(matrix).all():
        raise InvalidItems(f"expected {what} of shape {(n, width)}, finite, got {matrix.shape}")
    return matrix
