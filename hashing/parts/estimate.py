"""Estimates of distances from codes: what an item and a query contribute, and how far off they are.

For an item with code b in {-1, 1}^m and a query with the vector u, an estimate is

    constant - (scale · <b, u> + offset)

and its error is at most epsilon · error · length, with a probability that `share_within` states.
Item and query thus meet in one inner product, which a scan of packed codes computes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes, unpack
from hashing.arrays import Float64Array, row_blocks
from hashing.validation import InvalidInput, suggestion

Metric = Literal["euclidean", "cosine", "dot"]
METRICS: Sequence[Metric] = get_args(Metric)
"""What can be estimated: the squared Euclidean distance, one minus the cosine, minus the dot."""

EPSILON = 1.9
"""The bound of the paper, which holds for about 94 % of the pairs."""

LEVELS = 255
"""Steps to which the coordinates of a query are rounded, from the smallest to the largest."""


@dataclass(frozen=True, slots=True)
class QueryTerms:
    """What some queries contribute to estimates.

    Attributes
    ----------
    vectors : (q, m) float32
        u of each query, its coordinates rounded to 256 levels.
    constants : (q,) float64
    lengths : (q,) float64
        Distance of each query from the centre.
    roundings : (q,) float64
        Distance of each vector from what it was before it was rounded.
    """

    vectors: NDArray[np.float32]
    constants: Float64Array
    lengths: Float64Array
    roundings: Float64Array


def check_metric(metric: str) -> None:
    """Raise InvalidInput for a metric that is not known."""
    if metric not in METRICS:
        hint = suggestion(str(metric), METRICS)
        raise InvalidInput(f"metric must be one of {', '.join(METRICS)}, got {metric!r:.80}{hint}")


def estimates(queries: QueryTerms, codes: Codes, factors: NDArray[np.float32]) -> Float64Array:
    """Return the estimates for all pairs of a query and an item, (q, n).

    Parameters
    ----------
    queries : QueryTerms
    codes : (n, code_size(m)) uint8
    factors : (n, 3) float32
        Scale, offset and error of each item.
    """
    U = queries.vectors.astype(np.float64)
    found = np.empty((len(U), len(codes)))
    for rows in row_blocks(codes):
        signs = 2.0 * unpack(codes[rows], U.shape[1]) - 1
        scale, offset, _ = factors[rows].T.astype(np.float64)
        found[:, rows] = queries.constants[:, None] - (U @ signs.T * scale + offset)
    return found


def bounds(
    queries: QueryTerms, factors: NDArray[np.float32], epsilon: float = EPSILON
) -> Float64Array:
    """Return how far the estimate of each pair may be off, (q, n); see `share_within`."""
    return epsilon * queries.lengths[:, None] * factors[:, 2].astype(np.float64)


def share_within(epsilon: float, dimension: int) -> float:
    """Return for which share of pairs, at least, the error is within the bound of `epsilon`.

    The error of a pair is the bound times a coordinate of a random direction among those that are
    orthogonal to the item (paper, lemma B.1): this is its exact distribution, for d dimensions.
    """
    from scipy.special import stdtr

    n = dimension - 1
    if epsilon**2 >= n:
        return 1.0
    # A coordinate c of a direction in n dimensions: c √(n - 1) / √(1 - c²) has Student's t.
    t = epsilon * math.sqrt((n - 1) / (n - epsilon**2))
    return float(1 - 2 * stdtr(n - 1, -t)) if n > 1 else 0.0


def epsilon_for(confidence: float, dimension: int) -> float:
    """Return the epsilon that the error exceeds to one side with probability 1 - `confidence`.

    Parameters
    ----------
    confidence : float
        At least 0.5 and below 1.
    dimension : int
        Of the descriptors.
    """
    from scipy.special import stdtrit

    n = dimension - 1
    if n <= 1:
        return float(n)
    t = float(stdtrit(n - 1, confidence))
    return t * math.sqrt(n / (n - 1 + t * t))


def rounded(U: Float64Array) -> NDArray[np.float32]:
    """Return the rows of U, each rounded to 256 levels from its smallest to its largest number.

    Faiss rounds a query in the same way before it scans codes, and leaves these as they are.
    """
    low = U.min(axis=1, keepdims=True)
    step = (U.max(axis=1, keepdims=True) - low) / LEVELS
    levels = np.rint((U - low) / np.where(step > 0, step, 1))
    return np.asarray(low + levels * step, np.float32)
