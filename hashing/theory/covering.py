"""Covering numbers: how many items are needed so that every item has one of them nearby.

The law
-------
Let N points be at least ε apart from each other. By the Sudakov-Fernique inequality their mean
width is at least that of N independent Gaussians of variance ε² / 2, and the largest of N standard
Gaussians is at least √(ln N / (π ln 2)) on average. So

    ln N ≤ c ω²(K) / ε²,      c = π ln 2 / 2 ≈ 1.09.

A set of small mean width has small ε-nets, and a classifier that is right on an ε-net, and changes
slowly, is right everywhere: that many labels are enough.

Farthest-first traversal takes the item farthest from those taken before, again and again. The items
taken are an ε-net and ε apart for the same ε, at every step.

Where it stops
--------------
The bound is loose: it counts what the worst set of that width would need, and its exponent is often
ten times too large. In high dimension ε falls very slowly with the number of items.

Source
------
V. Sudakov 1969; R. Vershynin, "High-dimensional probability", Cambridge 2018, theorem 7.4.1 (with
an unnamed constant c); the use for training data is from Giryes, Sapiro, Bronstein 2016, on the
size of the training set. T. Gonzalez, "Clustering to minimize the maximum intercluster distance",
Theoretical Computer Science 38, 1985, on farthest-first traversal.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from hashing.arrays import Float64Array
from hashing.theory.samples import Indices, checked
from hashing.validation import InvalidInput, check_int

LAW = "the covering number"
SUDAKOV = math.pi * math.log(2) / 2
"""c in ln N ≤ c ω² / ε²."""


def sudakov_bound(width: float, epsilon: float) -> float:
    """Return the largest ln N of N points that are ε apart, in a set of mean width ω."""
    if not epsilon > 0:
        raise InvalidInput(f"epsilon must be above 0, got {epsilon}")
    return SUDAKOV * width**2 / epsilon**2


def farthest_first(
    X: ArrayLike, n: int, centres: Indices | None = None
) -> tuple[Indices, Float64Array]:
    """Take n items, each the farthest from the centres and the items taken before.

    Parameters
    ----------
    X : (N, d) array_like
    n : int
        At most N, less the centres. Fewer are taken if the others equal one that is taken.
    centres : array of int, optional
        Positions of items that count as taken before. Without any, the first item taken is the one
        nearest to the mean.

    Returns
    -------
    taken : (≤ n,) intp
        Positions in the order in which they were taken.
    radii : (≤ n,) float64
        Distance of each from all that were taken before; infinite for the first. The first i + 1
        items taken are ``radii[i]`` apart, and cover all items within ``radii[i]``.
    """
    points = checked(X, 1, LAW)
    check_int("n", n, 1, len(points))
    points = points - points.mean(axis=0)
    squares = np.einsum("ij,ij->i", points, points)
    zero = 1e-13 * float(squares.max())
    nearest = np.full(len(points), np.inf)

    def take(i: int) -> None:
        np.minimum(nearest, squares - 2 * (points @ points[i]) + squares[i], out=nearest)
        nearest[i] = 0

    taken, radii = [], []
    if centres is not None and len(centres):
        for i in centres:
            take(int(i))
    else:
        taken, radii = [int(squares.argmin())], [math.inf]
        take(taken[0])
    while len(taken) < n and nearest.max() > zero:
        i = int(nearest.argmax())
        taken.append(i)
        radii.append(math.sqrt(nearest[i]))
        take(i)
    return np.array(taken, np.intp), np.array(radii)
