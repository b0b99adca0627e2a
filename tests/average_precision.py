"""Mean average precision in one call, for tests of methods and of the measures themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.benchmark.averages import mean
from app.benchmark.rank import rank_codes, rank_euclidean
from app.benchmark.tied_rankings import Reals, harmonic_numbers
from bitcodes import Codes
from hashing.labels import Labels


def average_precision(
    query_codes: Codes, query_labels: Labels, db_codes: Codes, db_labels: Labels
) -> Reals:
    """Average precision of each query by Hamming distance; NaN without a relevant item."""
    rankings, _ = rank_codes(query_codes, query_labels, db_codes, db_labels)
    return rankings.average_precision(harmonic_numbers(len(db_codes)))


def mean_average_precision(
    query_codes: Codes, query_labels: Labels, db_codes: Codes, db_labels: Labels
) -> float:
    """Mean of `average_precision` over the queries that have a relevant item."""
    return mean(average_precision(query_codes, query_labels, db_codes, db_labels))


def average_precision_euclidean(
    queries: NDArray[np.floating], query_labels: Labels, db: NDArray[np.floating], db_labels: Labels
) -> Reals:
    """Average precision of each query by Euclidean distance."""
    harmonic = harmonic_numbers(len(db))
    rankings = rank_euclidean(queries, query_labels, db, db_labels)
    return np.array([ranking.average_precision(harmonic)[0] for ranking in rankings])
