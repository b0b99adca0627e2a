"""The nearest rows of a view: by Hamming distance, by estimates, or by true distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import Codes, to_words
from index.callbacks import Checkpoint
from index.errors import InvalidItems
from index.memory.view import Mask, View
from index.search import confidence, estimate
from index.search.estimate import Terms
from index.search.exact import search
from index.search.rerank import DISTANCES, as_matrix
from index.state import State
from index.storage.catalog import Metric
from index.types import Answer, SearchOptions
from index.validation import check_hamming

Ranked = tuple[list[Answer], list[NDArray[np.float64]] | None]
"""Answers, and the distances they are sorted by, unless these are the Hamming distances."""


@dataclass(frozen=True, slots=True)
class Given:
    """What queries are ranked by besides their codes: see `Collection.search`."""

    descriptors: ArrayLike | None
    terms: Terms | None
    epsilon: float | None


def nearest(
    state: State,
    view: View,
    codes: Codes,
    options: SearchOptions,
    given: Given,
    mask: Mask | None,
    checkpoint: Checkpoint,
) -> Ranked:
    """Return the nearest rows of each query code in a view, among those that a mask allows."""
    words, k, count_all = to_words(codes), options.depth, options.count_within
    metric = state.metric
    if metric is None:
        check_hamming(state.name, options.max_score, options.confidence)
        radius = options.radius
        return search(view, words, k, radius, mask, checkpoint, count_within=count_all), None
    if options.radius is not None:
        raise InvalidItems(
            f"collection {state.name!r} ranks by estimated distances: give max_score, the largest "
            "of them, instead of radius"
        )
    if options.confidence is not None:
        state.check_keeps_descriptors()
    if given.terms is None:
        raise InvalidItems("a search by estimated distances takes the terms of the queries")
    if options.confidence is not None:
        if given.epsilon is None or given.descriptors is None:
            raise InvalidItems("confidence takes the descriptors of the queries, and epsilon")
        bound = confidence.Confidence(options.confidence, given.epsilon)
        distances = _distances(state, view, given.descriptors, len(codes), metric)
        return confidence.search(
            view, words, given.terms, metric, k, bound, mask, distances, checkpoint
        )
    largest = options.max_score
    return estimate.search(
        view, words, given.terms, metric, k, largest, mask, checkpoint, count_within=count_all
    )


def _distances(
    state: State, view: View, descriptors: ArrayLike, n: int, metric: Metric
) -> confidence.Distances:
    """Return what compares queries with the descriptors that are kept."""
    width = state.dimension or np.shape(descriptors)[-1]
    X = as_matrix(descriptors, n, width, "descriptors")

    def distances(query: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        kept = state.record.descriptors(view.serials(rows).tolist())
        return DISTANCES[metric](X[query], kept.astype(np.float64).reshape(-1, width))

    return distances
