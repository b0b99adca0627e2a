"""Stable embedding: how far codes of random hyperplanes bend the distances between descriptors.

The law
-------
For unit vectors u and v, d_S is their angle divided by π and d_H the share of bits that differ
between sign(Au) and sign(Av), A Gaussian with m rows. Each bit differs with probability d_S, so for
one pair d_H has the mean d_S and the variance d_S (1 − d_S) / m. For all pairs of a set K at once,
with high probability,

    |d_S − d_H| ≤ δ = c · m^(−1/6) · ω(K)^(1/3).

Items with equal codes (a cell) are then at most δ apart. Pairing each item with its code relates K
and its codes with a distortion of at most δ, so their Gromov-Hausdorff distance is at most δ / 2.
Both directions are reported: codes that are farther apart than their items, and nearer.

Where it stops
--------------
The exponent 1/6 is what could be proved for every set, and an upper bound only: finite samples show
about m^(−1/2), as the binomial law of one pair does. The fitted c is that of the sample, chosen so
that δ just covers the largest errors measured: it is not the constant of the theorem.

Source
------
Y. Plan, R. Vershynin, "Dimension reduction by random hyperplane tessellations", Discrete &
Computational Geometry 51(2), 2014, on uniform tessellations by random hyperplanes; Giryes, Sapiro,
Bronstein 2016, on the stable embedding by one layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from hashing.arrays import Float64Array
from hashing.theory.samples import LEVEL, Estimate, directions, sample
from hashing.validation import InvalidInput

LAW = "the stable embedding"
ITEMS = 300
"""Items whose pairs are measured, at most."""
# The arc cosine of a rounded cosine is off by as much.
_ROUNDING = 1e-7


@dataclass(frozen=True)
class Distortion:
    """|d_S − d_H| over all pairs of a sample, at one code length; means over draws of A.

    Attributes
    ----------
    n_bits : int
    supremum : Estimate
        The largest |d_S − d_H|.
    median, percentile_95 : float
    too_far, too_near : float
        The largest d_H − d_S, and the largest d_S − d_H.
    cell_diameter : float or None
        The largest d_S between items of equal codes; None if all codes differ.
    """

    n_bits: int
    supremum: Estimate
    median: float
    percentile_95: float
    too_far: float
    too_near: float
    cell_diameter: float | None


@dataclass(frozen=True)
class Fit:
    """What the suprema say about δ = c · m^(−1/6) · ω^(1/3): the least c, and the true exponent."""

    constant: float
    exponent: Estimate


def distortions(
    X: ArrayLike, lengths: Sequence[int], n_draws: int = 5, n_items: int = ITEMS, seed: int = 0
) -> list[Distortion]:
    """Measure the distortion of random hyperplanes at several code lengths.

    Parameters
    ----------
    X : (n, d) array_like
        At least 3 descriptors; they are centred and scaled to length 1.
    lengths : sequence of int
        Code lengths m.
    n_draws : int
        Draws of A for each length.
    n_items : int
        Items of the sample, at most.
    seed : int
    """
    X = directions(X, 3, LAW)
    X = X[sample(len(X), n_items, seed)]
    first, second = np.triu_indices(len(X), 1)
    true = np.arccos(np.clip(X @ X.T, -1, 1))[first, second] / math.pi
    rng = np.random.default_rng(seed)
    return [
        _distortion([_code_distances(X, m, rng)[first, second] for _ in range(n_draws)], true, m)
        for m in lengths
    ]


def fit(found: Sequence[Distortion], width: Estimate) -> Fit:
    """Fit c and the exponent to suprema at several code lengths; `width` is ω of the items."""
    if len({each.n_bits for each in found}) < 3:
        raise InvalidInput(f"{LAW} needs at least 3 code lengths to fit an exponent")
    m = np.array([each.n_bits for each in found], np.float64)
    suprema = np.array([each.supremum.value for each in found])
    if suprema.min() <= _ROUNDING:
        raise InvalidInput(
            f"{LAW} needs descriptors in more than two directions: the codes of these bend no "
            "distance"
        )
    line, covariance = np.polyfit(np.log(m), np.log(suprema), 1, cov=True)
    half = float(stdtrit(len(m) - 2, (1 + LEVEL) / 2) * np.sqrt(covariance[0, 0]))
    slope = float(line[0])
    constant = float((suprema * m ** (1 / 6)).max() / width.value ** (1 / 3))
    return Fit(constant, Estimate(slope, slope - half, slope + half))


def bound(n_bits: float, width: float, constant: float) -> float:
    """Return δ = c · m^(−1/6) · ω^(1/3)."""
    return float(constant * n_bits ** (-1 / 6) * width ** (1 / 3))


def _code_distances(X: Float64Array, n_bits: int, rng: np.random.Generator) -> Float64Array:
    """Return d_H of all pairs under freshly drawn hyperplanes."""
    # ⟨s, t⟩ of two sign vectors is m less twice the bits that differ; float32 holds it exactly.
    signs = np.where(X @ rng.standard_normal((X.shape[1], n_bits)) > 0, np.float32(1), -1)
    return np.asarray((1 - (signs @ signs.T).astype(np.float64) / n_bits) / 2)


def _distortion(draws: Sequence[Float64Array], true: Float64Array, n_bits: int) -> Distortion:
    errors = [distances - true for distances in draws]
    sizes = [np.abs(error) for error in errors]
    cells = [true[distances == 0] for distances in draws]
    diameters = [float(cell.max()) for cell in cells if cell.size]
    return Distortion(
        n_bits=n_bits,
        supremum=Estimate.of_mean([size.max() for size in sizes]),
        median=float(np.mean([np.median(size) for size in sizes])),
        percentile_95=float(np.mean([np.quantile(size, 0.95) for size in sizes])),
        too_far=float(np.mean([error.max() for error in errors])),
        too_near=float(np.mean([-error.min() for error in errors])),
        cell_diameter=max(diameters) if diameters else None,
    )
