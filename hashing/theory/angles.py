"""Angles and distances after random relu layers.

The law
-------
Let α be the angle between u and v, and A a Gaussian matrix with a_ij ~ N(0, 1/m). As m grows,

    cos ∠(ρ(Au), ρ(Av)) → cos α + ψ(α),      ψ(α) = (sin α − α cos α) / π,
    ‖ρ(Au)‖² → ½ ‖u‖²,
    ‖ρ(Au) − ρ(Av)‖² → ½ ‖u − v‖² − ‖u‖ ‖v‖ ψ(α).

The last is between ¼ and ½ of ‖u − v‖²: large angles shrink more than small ones. Further layers
apply the same to the angle and the lengths that the layer before left.

Where it stops
--------------
The limits are for weights that are independent of the data, and a pair is off by about 1/√m.
Trained nets break the law on purpose (`hashing.theory.training`).

Source
------
Y. Cho, L. Saul, "Kernel methods for deep learning", NIPS 2009 (the arc-cosine kernel of degree 1);
Giryes, Sapiro, Bronstein 2016, theorem 3 on distances, and the theorem on angles that follows it.
Corrections: a printed version of the distance law has + ‖u‖ ‖v‖ ψ(α), which the kernel contradicts;
at m = 400,000 and α = 2 the measured value for unit vectors is 0.86, with minus 0.862, with plus
1.971. That theorem 3 is not accurate was also found by T. Gulcu, A. Güngör, 'Comments on "Deep
Neural Networks with Random Gaussian Weights: A Universal Classification Strategy?"',
arXiv:1901.02182, 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hashing.arrays import Float64Array
from hashing.theory.samples import (
    Estimate,
    Indices,
    angles_between,
    directions,
    random_pairs,
    relu_layer,
    sample,
    squared_distances,
    unit,
)

LAW = "the law of angles"
ITEMS = 1000
"""Items whose pairs are measured, at most."""


@dataclass(frozen=True)
class AngleBin:
    """Pairs of similar angle before and after random relu layers; means over draws of A.

    Attributes
    ----------
    angle : float
        Mean angle of the pairs before the layers, in radians.
    cosine : Estimate
        Mean cosine of the angle after the layers.
    cosine_expected : float
    squared_distance : Estimate
        Mean squared distance after the layers, of vectors of length 1 before them.
    squared_distance_expected : float
    """

    angle: float
    cosine: Estimate
    cosine_expected: float
    squared_distance: Estimate
    squared_distance_expected: float


def psi(angle: ArrayLike) -> Float64Array:
    """Return ψ(α) = (sin α − α cos α) / π, which a relu layer adds to the cosine."""
    angle = np.asarray(angle, np.float64)
    return np.asarray((np.sin(angle) - angle * np.cos(angle)) / math.pi)


def cosine_after(angle: ArrayLike, n_layers: int = 1) -> Float64Array:
    """Return the limit of the cosine after some random relu layers."""
    cosine = np.cos(np.asarray(angle, np.float64))
    for _ in range(n_layers):
        cosine = np.clip(cosine + psi(np.arccos(cosine)), -1, 1)
    return np.asarray(cosine)


def squared_distance_after(
    angle: ArrayLike, norm_u: ArrayLike = 1.0, norm_v: ArrayLike = 1.0, n_layers: int = 1
) -> Float64Array:
    """Return the limit of ‖u' − v'‖² after some random relu layers, given ‖u‖, ‖v‖ and α."""
    u, v = np.asarray(norm_u, np.float64), np.asarray(norm_v, np.float64)
    return np.asarray((u**2 + v**2 - 2 * u * v * cosine_after(angle, n_layers)) / 2.0**n_layers)


def angle_bins(
    X: ArrayLike,
    n_units: int = 1024,
    n_layers: int = 1,
    *,
    n_bins: int = 12,
    n_draws: int = 8,
    seed: int = 0,
) -> list[AngleBin]:
    """Measure cosines and distances after random relu layers, in bins of pairs by their angle.

    The pairs are random ones, and each item of the sample with its nearest neighbour there. The
    bins hold equally many pairs; their intervals are over draws of A.

    Parameters
    ----------
    X : (n, d) array_like
        At least 10 descriptors; they are centred and scaled to length 1.
    n_units : int
        Width m of each layer.
    n_layers : int
    n_bins, n_draws, seed : int
    """
    X = directions(X, 10, LAW)
    X = X[sample(len(X), ITEMS, seed)]
    rng = np.random.default_rng(seed)
    first, second = _pairs(X, rng)
    angles = angles_between(X[first], X[second])
    order = np.argsort(angles)
    bins = [order[part] for part in np.array_split(np.arange(len(order)), n_bins)]
    draws = [_after(X, first, second, n_units, n_layers, rng) for _ in range(n_draws)]
    return [_bin(angles, chosen, draws, n_layers) for chosen in bins]


def _pairs(X: Float64Array, rng: np.random.Generator) -> tuple[Indices, Indices]:
    first, second = random_pairs(len(X), 3 * len(X), rng)
    nearest = np.empty(len(X), np.intp)
    for rows, block in squared_distances(X, X):
        own = np.arange(len(block))
        block[own, rows.start + own] = np.inf
        nearest[rows] = block.argmin(axis=1)
    return np.concatenate([first, np.arange(len(X))]), np.concatenate([second, nearest])


def _after(
    X: Float64Array,
    first: Indices,
    second: Indices,
    n_units: int,
    n_layers: int,
    rng: np.random.Generator,
) -> tuple[Float64Array, Float64Array]:
    """Return cosines and squared distances of pairs after layers drawn from `rng`."""
    for _ in range(n_layers):
        X = relu_layer(X, n_units, rng)
    directions = unit(X)
    cosines = np.einsum("ij,ij->i", directions[first], directions[second])
    return cosines, np.square(X[first] - X[second]).sum(axis=1)


def _bin(
    angles: Float64Array,
    chosen: Indices,
    draws: list[tuple[Float64Array, Float64Array]],
    n_layers: int,
) -> AngleBin:
    own = angles[chosen]
    return AngleBin(
        angle=float(own.mean()),
        cosine=Estimate.of_mean([cosines[chosen].mean() for cosines, _ in draws]),
        cosine_expected=float(cosine_after(own, n_layers).mean()),
        squared_distance=Estimate.of_mean([squares[chosen].mean() for _, squares in draws]),
        squared_distance_expected=float(squared_distance_after(own, n_layers=n_layers).mean()),
    )
