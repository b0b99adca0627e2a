"""What training does: how a map changes distances within and between classes.

The law
-------
Random layers change all distances alike: after division by the mean change, the ratio of output to
input distance is near 1 for pairs of one class and of two. Training has one job, at the boundary of
the classes: for each item, the farthest item of its class and the nearest of another. There a good
trained map shrinks distances within classes and stretches those between them; random pairs change
little.

Where it stops
--------------
The law is an observation, not a theorem: it was made on nets that generalize. A map that throws all
but the class away also changes random pairs. Items with a wrong label look like boundaries.

Source
------
Giryes, Sapiro, Bronstein 2016, on the role of training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashing.arrays import Float64Array
from hashing.theory.samples import (
    Estimate,
    Indices,
    checked,
    classes_of,
    random_pairs,
    sample,
    squared_distances,
)
from hashing.validation import InvalidInput

LAW = "the change of distances by training"
ITEMS = 2000
"""Labelled items of the sample, at most."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Ratios:
    """Ratios of output to input distance, in units of their root mean square over all pairs.

    Attributes
    ----------
    mean : Estimate
    quantiles : tuple of float
        At `QUANTILES`.
    """

    mean: Estimate
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Change:
    """How a map changes distances, for random and for boundary triplets of items.

    A triplet is an item, one of its class and one of another: random ones, or the farthest of its
    class and the nearest of another.
    """

    random_within: Ratios
    random_between: Ratios
    boundary_within: Ratios
    boundary_between: Ratios


def change(X: ArrayLike, Z: ArrayLike, y: ArrayLike | None, seed: int = 0) -> Change:
    """Compare distances between descriptors with those between their images under a map.

    Parameters
    ----------
    X : (n, d) array_like
        Descriptors.
    Z : (n, m) array_like
        What a map makes of them, for instance the real-valued projections of a net.
    y : (n,) array_like of int
        Labels, -1 for none. Two classes need two items each.
    seed : int
    """
    X, Z = checked(X, 4, LAW), checked(Z, 4, LAW)
    labels = classes_of(y, len(X), LAW)
    kept = _usable(labels)
    kept = kept[sample(len(kept), ITEMS, seed)]
    kept = kept[_usable(labels[kept])]
    X, Z, labels = X[kept], Z[kept], labels[kept]
    classes_of(labels, len(labels), LAW)  # The sample must still have two classes.
    rng = np.random.default_rng(seed)
    scale = _scale(X, Z, rng)
    within, between = _random_triplets(labels, rng)
    farthest, nearest = _boundary_triplets(X, labels)
    return Change(*(_ratios(X, Z, each, scale) for each in (within, between, farthest, nearest)))


def _usable(labels: NDArray[np.int64]) -> Indices:
    """Return the positions of labelled items that are not the only one of their class."""
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return np.flatnonzero((labels >= 0) & (sizes[inverse] > 1))


def _scale(X: Float64Array, Z: Float64Array, rng: np.random.Generator) -> float:
    """Return the root of the mean squared output distance over the mean squared input distance."""
    first, second = random_pairs(len(X), 10 * len(X), rng)
    before = np.square(X[first] - X[second]).sum()
    after = np.square(Z[first] - Z[second]).sum()
    if before <= 0 or after <= 0:
        raise InvalidInput(f"{LAW} needs different descriptors and images: these are constant")
    return float(np.sqrt(after / before))


def _random_triplets(
    labels: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """Return, for each item, a random other one of its class and one of another class."""
    n = len(labels)
    order = np.argsort(labels, kind="stable")
    place = np.empty(n, np.intp)
    place[order] = np.arange(n)
    start = np.searchsorted(labels[order], labels, "left")
    size = np.searchsorted(labels[order], labels, "right") - start
    # Both are uniform steps around a circle that leave out the item, or its whole class.
    within = start + (place - start + rng.integers(1, size)) % size
    between = (start + size + rng.integers(n - size)) % n
    return order[within], order[between]


def _boundary_triplets(X: Float64Array, labels: NDArray[np.int64]) -> tuple[Indices, Indices]:
    """Return, for each item, the farthest one of its class and the nearest one of another."""
    farthest, nearest = np.empty(len(X), np.intp), np.empty(len(X), np.intp)
    for rows, block in squared_distances(X - X.mean(axis=0), X - X.mean(axis=0)):
        same = labels[rows, None] == labels
        farthest[rows] = np.where(same, block, -1).argmax(axis=1)
        nearest[rows] = np.where(same, np.inf, block).argmin(axis=1)
    return farthest, nearest


def _ratios(X: Float64Array, Z: Float64Array, others: Indices, scale: float) -> Ratios:
    before = np.linalg.norm(X - X[others], axis=1)
    after = np.linalg.norm(Z - Z[others], axis=1)
    different = before > 0
    ratios = after[different] / before[different] / scale
    if not len(ratios):
        raise InvalidInput(f"{LAW} needs different descriptors in each class")
    return Ratios(
        Estimate.of_mean(ratios), tuple(float(each) for each in np.quantile(ratios, QUANTILES))
    )
