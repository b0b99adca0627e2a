"""The nearest by Hamming distance put into a finer order."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import asymmetric_distances, unpack
from index.errors import InvalidItems
from index.memory.view import View
from index.storage.record import Record
from index.types import Answer

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
    """Order each answer by the asymmetric distance of the query's projection to the codes."""
    Z = _matrix(projections, len(answers), n_bits, "projections")
    ordered = []
    for z, answer in zip(Z, answers, strict=True):
        bits = unpack(view.codes(answer.rows), n_bits).astype(np.float64)
        ordered.append(_by(asymmetric_distances(z[None], bits)[0], answer))
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
