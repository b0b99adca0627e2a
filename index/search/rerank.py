"""Reranking: sort the items that are nearest by Hamming distance by a finer distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import asymmetric_distances, unpack
from index.errors import InvalidItems
from index.memory.view import View
from index.storage.record import Record
from index.types import Answer

Scored = tuple[list[Answer], list[NDArray[np.float64]]]
"""Answers in their new order, and the distances by which they are sorted."""


def by_descriptors(
    view: View, answers: list[Answer], queries: ArrayLike, dimension: int | None, record: Record
) -> Scored:
    """Sort by the Euclidean distance to the descriptors that are kept, as float16."""
    X = _matrix(queries, len(answers), dimension or np.shape(queries)[-1], "descriptors")
    reranked = []
    for x, answer in zip(X, answers, strict=True):
        kept = record.descriptors(view.serials(answer.rows).tolist()).astype(np.float64)
        distances = np.sqrt(((kept.reshape(-1, len(x)) - x) ** 2).sum(axis=1))
        reranked.append(_sorted_by(distances, answer))
    return [answer for answer, _ in reranked], [score for _, score in reranked]


def by_bits(view: View, answers: list[Answer], projections: ArrayLike, n_bits: int) -> Scored:
    """Sort by the asymmetric distance of the query's projection to the codes."""
    Z = _matrix(projections, len(answers), n_bits, "projections")
    reranked = []
    for z, answer in zip(Z, answers, strict=True):
        bits = unpack(view.codes(answer.rows), n_bits).astype(np.float64)
        reranked.append(_sorted_by(asymmetric_distances(z[None], bits)[0], answer))
    return [answer for answer, _ in reranked], [score for _, score in reranked]


def _sorted_by(score: NDArray[np.float64], answer: Answer) -> tuple[Answer, NDArray[np.float64]]:
    # A stable sort leaves items with equal scores in the order of Hamming distance and id.
    order = np.argsort(score, kind="stable")
    return (
        Answer(answer.rows[order], answer.distances[order], answer.certificate),
        score[order],
    )


def _matrix(values: ArrayLike, n: int, width: int, what: str) -> NDArray[np.float64]:
    matrix = np.asarray(values, np.float64)
    if matrix.shape != (n, width):
        raise InvalidItems(f"expected {what} of shape {(n, width)}, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise InvalidItems(f"expected finite {what}")
    return matrix
