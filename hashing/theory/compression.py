"""Compressed discrimination: telling items apart takes fewer bits than reconstructing them.

The law
-------
To tell two points from a third, a code needs bits in proportion to the logarithm of how many items
there are, and to how close the classes come. To reconstruct a descriptor within ε, it needs bits in
proportion to ω² / ε² or more. So a code of growing length tells classes apart before it finds the
true neighbours or reconstructs descriptors.

This module measures what codes keep for the last two tasks. How well they tell classes apart is
the mean average precision of a benchmark.

Where it stops
--------------
The order holds where classes are far apart compared with the details of their items. If each item
is a class of its own, telling apart is finding neighbours.

Source
------
Giryes, Sapiro, Bronstein 2016; M. Davenport et al., "Signal processing with
compressive measurements", IEEE J. Selected Topics in Signal Processing 4(2), 2010, on
discrimination from few measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import Codes, hamming, unpack
from hashing.arrays import Float64Array, row_blocks
from hashing.theory.one_bit import regression_recovery
from hashing.theory.samples import Estimate, Indices, checked, sample, squared_distances

LAW = "compressed discrimination"
NEIGHBOURS = 10
QUERIES = 500
"""Items whose neighbours are looked for, at most."""
_BLOCK = 64


@dataclass(frozen=True)
class Kept:
    """What codes keep of descriptors.

    Attributes
    ----------
    n_bits : int
    reconstruction : Estimate
        Share of the squared distance from the mean that regression recovers from the codes.
    neighbours : Estimate
        Share of the true nearest neighbours that are among as many nearest by code.
    """

    n_bits: int
    reconstruction: Estimate
    neighbours: Estimate


def kept(X: ArrayLike, codes: Codes, n_bits: int, seed: int = 0) -> Kept:
    """Measure what packed codes of descriptors keep of them."""
    X = checked(X, 2 * NEIGHBOURS, LAW)
    lost = regression_recovery(X, unpack(codes, n_bits), seed).lost
    return Kept(
        n_bits,
        Estimate(1 - lost.value, 1 - lost.high, 1 - lost.low),
        neighbours_found(X, codes, seed=seed),
    )


def neighbours_found(
    X: ArrayLike, codes: Codes, k: int = NEIGHBOURS, n_queries: int = QUERIES, seed: int = 0
) -> Estimate:
    """Return the share of the k true nearest neighbours among the k nearest by Hamming distance.

    Items at the distance of the k-th count as if they were in random order.
    """
    return neighbours_nearest(
        X, lambda queries: hamming(codes[queries], codes), k=k, n_queries=n_queries, seed=seed
    )


def neighbours_nearest(
    X: ArrayLike,
    distances: Callable[[Indices], NDArray[Any]],
    *,
    k: int = NEIGHBOURS,
    n_queries: int = QUERIES,
    seed: int = 0,
) -> Estimate:
    """Return the share of the k true nearest neighbours among the k nearest by other distances.

    Parameters
    ----------
    X : (n, d) array_like
    distances : callable
        Takes positions of queries, (q,); returns their distances to all items, (q, n).
    k, n_queries, seed : int
        Items at the distance of the k-th count as if they were in random order.
    """
    X = checked(X, k + 2, LAW)
    queries = sample(len(X), n_queries, seed)
    true = _neighbours(X, queries, k)
    shares = []
    for rows in row_blocks(queries, _BLOCK):
        block = np.array(distances(queries[rows]), np.float64)
        block[np.arange(len(block)), queries[rows]] = np.inf
        last = np.partition(block, k - 1, axis=1)[:, k - 1 : k]
        found = np.take_along_axis(block, true[rows], axis=1)
        room = k - (block < last).sum(axis=1)
        tied = (block == last).sum(axis=1)
        shares.append((found < last).sum(axis=1) + (found == last).sum(axis=1) * room / tied)
    return Estimate.of_mean(np.concatenate(shares) / k)


def _neighbours(X: Float64Array, queries: Indices, k: int) -> Indices:
    """Return the positions of the k nearest other items of each query."""
    X = X - X.mean(axis=0)
    found = []
    for rows, block in squared_distances(X[queries], X):
        block[np.arange(len(block)), queries[rows]] = np.inf
        found.append(np.argpartition(block, k - 1, axis=1)[:, :k])
    return np.concatenate(found)
