"""Gaussian mean width: how large a set of descriptors is, seen from random directions.

The law
-------
ω(K) = E sup ⟨g, u − v⟩ over u, v in K, with g ~ N(0, I). ω²(K) acts as a dimension: codes and
random layers need numbers of bits and units in proportion to it. The unit sphere of n dimensions
has ω = 2 E‖g‖ ≈ 2 √n, so (ω / 2)² is printed here as the dimension: n − ½ for that sphere. It grows
like k + log L for L subspaces of dimension k, and like k log(n / k) for vectors with k of n atoms.

A random relu layer with a_ij ~ N(0, 1/m) keeps it: ‖ρ(Au) − ρ(Av)‖² is between ¼ and ½ of ‖u − v‖²
as m grows (`hashing.theory.angles`), so by the Sudakov-Fernique inequality ω²(ρ(AK)) is between ¼
and ½ of ω²(K). The ½ is the energy that relu takes. It is given back here (a factor of √2 for each
layer), and after L layers between 2⁻ᴸ and 1 of ω²(K) remains.

Where it stops
--------------
A sample of N points in the unit ball has ω ≤ 2 √(2 ln N), whatever the set it is drawn from: a
dimension near 2 ln N (`ceiling`) says "this or more". The layers need m well above ω².

Source
------
Y. Plan, R. Vershynin, "Robust 1-bit compressed sensing and sparse logistic regression: a convex
programming approach", IEEE Trans. Information Theory 59(1), 2013; R. Giryes, G. Sapiro,
A. Bronstein, "Deep neural networks with random Gaussian weights: a universal classification
strategy?", IEEE Trans. Signal Processing 64(13), 2016. Correction: there, ω²(ρ(AK)) and ω²(K)
are compared without the factor of ½ for the energy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from hashing.arrays import Float64Array
from hashing.theory.samples import Estimate, checked, relu_layer
from hashing.validation import InvalidInput

LAW = "the mean width"
_DIRECTIONS = 200


def mean_width(X: ArrayLike, n_directions: int = _DIRECTIONS, seed: int = 0) -> Estimate:
    """Return ω of a set of points, averaged over random directions.

    Parameters
    ----------
    X : (n, d) array_like
        At least two points. They are used as they are; the width does not depend on the origin.
    n_directions : int
    seed : int
    """
    X = checked(X, 2, LAW)
    if not np.ptp(X, axis=0).any():
        raise InvalidInput(f"{LAW} needs at least two different descriptors: these are constant")
    rng = np.random.default_rng(seed)
    projections = X @ rng.standard_normal((X.shape[1], n_directions))
    return Estimate.of_mean(np.ptp(projections, axis=0))


def mean_width_of_set(
    support: Callable[[Float64Array], Float64Array],
    dimension: int,
    n_directions: int = _DIRECTIONS,
    seed: int = 0,
) -> Estimate:
    """Return ω of a set that is given by its support function.

    Parameters
    ----------
    support : callable
        Maps directions g, (t, d), to sup ⟨g, x⟩ over the set, (t,).
    dimension : int
        d.
    n_directions : int
    seed : int
    """
    g = np.random.default_rng(seed).standard_normal((n_directions, dimension))
    return Estimate.of_mean(support(g) + support(-g))


def dimension(width: Estimate) -> Estimate:
    """Return (ω / 2)², the dimension of a sphere of radius 1 with this mean width (plus ½)."""
    low = max(width.low, 0)
    return Estimate(width.value**2 / 4, low**2 / 4, width.high**2 / 4)


def ceiling(n_points: int) -> float:
    """Return 2 ln N: no N points in the unit ball have a greater dimension (ω / 2)²."""
    return 2 * math.log(n_points)


def widths_after_layers(
    X: ArrayLike,
    n_units: int = 1024,
    n_layers: int = 2,
    n_directions: int = _DIRECTIONS,
    seed: int = 0,
) -> list[Estimate]:
    """Return ω of the points, and after each of some random relu layers.

    What follows layer l is multiplied by 2^(l/2), for the energy that relu takes.
    """
    hidden = checked(X, 2, LAW)
    rng = np.random.default_rng(seed)
    widths = [mean_width(hidden, n_directions, seed)]
    for layer in range(1, n_layers + 1):
        hidden = relu_layer(hidden, n_units, rng)
        widths.append(mean_width(hidden, n_directions, seed).times(2 ** (layer / 2)))
    return widths
