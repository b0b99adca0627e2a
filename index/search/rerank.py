"""Reranking: sort the items that are nearest by Hamming distance by a finer distance.

It reads items by `Items` only, so that every backend reranks in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import asymmetric_distances, unpack
from index.callbacks import Checkpoint
from index.errors import InvalidItems
from index.search.items import Items
from index.storage.catalog import DescriptorType, Metric
from index.types import Answer, SearchOptions
from index.validation import check_keeps_descriptors

# Items whose descriptors or bits are compared at once, which bounds the memory.
_BLOCK = 4096

Scored = tuple[list[Answer], list[NDArray[np.float64]]]
"""Answers in their new order, and the distances by which they are sorted."""


class About(Protocol):
    """What reranking has to know of a collection."""

    @property
    def name(self) -> str:
        """The name."""

    @property
    def n_bits(self) -> int:
        """Code length."""

    @property
    def descriptor_type(self) -> DescriptorType | None:
        """How descriptors are kept; None if they are not."""

    @property
    def dimension(self) -> int | None:
        """The dimension of the descriptors that are kept; None before the first."""


def reranked(
    about: About,
    items: Items,
    answers: list[Answer],
    options: SearchOptions,
    descriptors: ArrayLike | None,
    projections: ArrayLike | None,
    checkpoint: Checkpoint,
) -> Scored:
    """Return answers as the options want them reranked.

    `descriptors` and `projections` are those of the queries. Raise InvalidItems if what is needed
    of them is missing, or if the collection keeps no descriptors to rerank by.
    """
    by = options.rerank_distance(about.descriptor_type is not None)
    if by == "bits":
        if projections is None:
            raise InvalidItems("reranking by bits takes the projections of the queries")
        return by_bits(items, answers, projections, about.n_bits, checkpoint)
    check_keeps_descriptors(about.name, about.descriptor_type)
    if descriptors is None:
        raise InvalidItems(f"reranking by {by} takes the descriptors of the queries")
    return by_descriptors(
        items, answers, descriptors, about.dimension, checkpoint, cosine=by == "cosine"
    )


def by_descriptors(
    items: Items,
    answers: list[Answer],
    queries: ArrayLike,
    dimension: int | None,
    checkpoint: Checkpoint,
    *,
    cosine: bool = False,
) -> Scored:
    """Sort by the distance to the descriptors that are kept: Euclidean, or one minus the cosine."""
    X = as_matrix(queries, len(answers), dimension or np.shape(queries)[-1], "descriptors")
    distance = _cosine_distances if cosine else _euclidean_distances

    def distances(query: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        x = X[query]
        kept = items.descriptors(rows).astype(np.float64)
        return distance(x, kept.reshape(-1, len(x)))

    return _sorted(answers, distances, checkpoint)


def _euclidean_distances(x: NDArray[np.float64], kept: NDArray[np.float64]) -> NDArray[np.float64]:
    score: NDArray[np.float64] = np.sqrt(((kept - x) ** 2).sum(axis=1))
    return score


def _dot_distances(x: NDArray[np.float64], kept: NDArray[np.float64]) -> NDArray[np.float64]:
    score: NDArray[np.float64] = -(kept * x).sum(axis=1)
    return score


def _cosine_distances(x: NDArray[np.float64], kept: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one minus the cosines; a vector of zeros has the cosine 0 with every other."""
    lengths = np.linalg.norm(kept, axis=1) * np.linalg.norm(x)
    cosines = (kept * x).sum(axis=1) / np.where(lengths == 0, 1, lengths)
    score: NDArray[np.float64] = 1 - np.clip(cosines, -1, 1)
    return score


DISTANCES: dict[Metric, Callable[..., NDArray[np.float64]]] = {
    "euclidean": _euclidean_distances,
    "cosine": _cosine_distances,
    "dot": _dot_distances,
}
"""What is estimated, between one descriptor and those of a matrix."""


def by_bits(
    items: Items,
    answers: list[Answer],
    projections: ArrayLike,
    n_bits: int,
    checkpoint: Checkpoint,
) -> Scored:
    """Sort by the asymmetric distance of the query's projection to the codes."""
    Z = as_matrix(projections, len(answers), n_bits, "projections")

    def distances(query: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        bits = unpack(items.codes(rows), n_bits).astype(np.float64)
        score: NDArray[np.float64] = asymmetric_distances(Z[query, None], bits)[0]
        return score

    return _sorted(answers, distances, checkpoint)


def _sorted(
    answers: list[Answer],
    distances: Callable[[int, NDArray[np.int64]], NDArray[np.float64]],
    checkpoint: Checkpoint,
) -> Scored:
    """Sort by what `distances` returns for the place of a query and some rows.

    `checkpoint` is called before each block of rows and may raise to give up.
    """
    reranked = []
    for query, answer in enumerate(answers):
        score = np.empty(len(answer.rows))
        for start in range(0, len(score), _BLOCK):
            checkpoint()
            block = slice(start, start + _BLOCK)
            score[block] = distances(query, answer.rows[block])
        reranked.append(_sorted_by(score, answer))
    return [answer for answer, _ in reranked], [score for _, score in reranked]


def _sorted_by(score: NDArray[np.float64], answer: Answer) -> tuple[Answer, NDArray[np.float64]]:
    # A stable sort leaves items with equal scores in the order of Hamming distance and id.
    order = np.argsort(score, kind="stable")
    return (
        Answer(answer.rows[order], answer.distances[order], answer.certificate),
        score[order],
    )


def as_matrix(values: ArrayLike, n: int, width: int, what: str) -> NDArray[np.float64]:
    """Return values in float64; raise InvalidItems unless they are finite and of this shape."""
    matrix = np.asarray(values, np.float64)
    if matrix.shape != (n, width):
        raise InvalidItems(f"expected {what} of shape {(n, width)}, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise InvalidItems(f"expected finite {what}")
    return matrix
