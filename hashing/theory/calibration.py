"""Calibration: what a Hamming distance means as an angle or a Euclidean distance.

The law
-------
*Random hyperplanes* (`lsh`): the distance d of two codes of m bits is binomial, with the angle
divided by π as the probability of a bit. The angle is π d / m, with binomial intervals
(`binomial_angles`): those of Clopper and Pearson cover the angle at least as often as they say; the
mid-P intervals cover it that often on average.

*All other codes*: the mean angle (or Euclidean distance) of pairs rises with their Hamming
distance. Isotonic regression estimates it from half of the pairs. The other half says how far pairs
are from it (split-conformal intervals): of a new pair from the same source, the interval contains
the angle with the stated probability, whatever the encoder and the data (`Calibration`). This holds
at each distance, not just over all pairs, because distances with enough pairs have an interval of
their own. At a distance that no pair has, nothing was measured: there, the values are taken to rise
with the distance, from 0 at 0, and the interval reaches from the lower end at the next smaller
distance that occurs to the upper end at the next larger one (`Calibration.fit`).

*False matches*: the largest radius at which at most a share p of unrelated pairs match
(`radius_for_rate`), by an upper bound on the share. Shares grow with the radius, so radii are
tested from 0 on until the first fails, and the bound needs no correction for their number.

Where it stops
--------------
The binomial intervals hold at each angle, not at each distance: where most pairs are far apart, a
small distance is mostly that of a pair that is farther apart than it looks. The conformal ones hold
at each distance. New pairs must come from the source of the pairs that were used; after a drift,
calibrate again. Pairs that share items tell less than as many that do not: the bound is exact for
`hashing.theory.samples.disjoint_pairs`. The intervals of the binomial are over draws of the
hyperplanes; for one draw they hold on average over pairs.

Source
------
C. Clopper, E. Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934; H.
Lancaster, "Significance tests in discrete distributions", JASA 56, 1961, for mid-P; V. Vovk, A.
Gammerman, G. Shafer, "Algorithmic learning in a random world", Springer 2005, chapter 4 (inductive
and Mondrian conformal predictors).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv

from hashing.arrays import Float64Array
from hashing.validation import InvalidInput, check_int

LAW = "calibration"
LEVEL = 0.9
"""Level of the intervals, unless another one is asked for."""
LEAST_PAIRS = 400
"""Fewest pairs that `Calibration.fit` accepts."""
# Distances are joined until their interval rests on this many pairs.
_GROUP = 200
_HALVINGS = 60


@dataclass(frozen=True)
class Calibration:
    """What each Hamming distance from 0 to m means.

    Attributes
    ----------
    value, low, high : (m + 1,) float64
        The mean of the angles, or other values, at each distance, and the ends of their interval.
    level : float
        Share of pairs whose value is within the interval.
    n_pairs : int
        Pairs that the calibration rests on; 0 if it follows from the law of hyperplanes.
    """

    value: Float64Array
    low: Float64Array
    high: Float64Array
    level: float
    n_pairs: int

    @classmethod
    def fit(
        cls,
        distances: ArrayLike,
        values: ArrayLike,
        n_bits: int,
        *,
        level: float = LEVEL,
        seed: int = 0,
        upper: float = math.inf,
    ) -> Calibration:
        """Calibrate by isotonic regression with split-conformal intervals.

        Parameters
        ----------
        distances : (n,) array_like of int
            Hamming distances of at least `LEAST_PAIRS` pairs.
        values : (n,) array_like of float
            Their angles, or Euclidean distances: at least 0.
        n_bits : int
            The code length m. At distances that no pair has, the value is linear between those
            that occur, from 0 at 0 on; above the largest, it is the value of that one. The interval
            there reaches from the lower end at the next smaller distance that occurs, or 0, to the
            upper end at the next larger one, or `upper`.
        level : float
            Above 0.5 and below 1.
        seed : int
            Of the split into halves.
        upper : float
            The largest value there is: π for angles.
        """
        d, values = _checked_distances(distances, n_bits), np.asarray(values, np.float64)
        if values.shape != d.shape or not np.isfinite(values).all() or (values < 0).any():
            raise InvalidInput(f"{LAW} needs one finite value of at least 0 for each distance")
        # Angles in float32 may exceed π by a rounding error.
        if values.size and values.max() > upper * (1 + 1e-6):
            raise InvalidInput(f"{LAW} needs values of at most {upper}, got {values.max()}")
        check_level(level)
        if len(d) < LEAST_PAIRS:
            raise InvalidInput(f"{LAW} needs at least {LEAST_PAIRS} pairs, got {len(d)}")
        order = np.random.default_rng(seed).permutation(len(d))
        fitted, rest = order[: len(d) // 2], order[len(d) // 2 :]
        value = _isotonic(d[fitted], values[fitted], n_bits)
        below, above = _residual_bounds(d[rest], values[rest] - value[d[rest]], n_bits, level)
        low, high = np.maximum(value + below, 0), np.minimum(value + above, upper)
        seen = np.unique(d)
        return cls(value, *_with_gaps(low[seen], high[seen], seen, n_bits, upper), level, len(d))


def binomial_angles(n_bits: int, *, level: float = LEVEL, exact: bool = True) -> Calibration:
    """Return the angle of each Hamming distance under random hyperplanes, in radians.

    Parameters
    ----------
    n_bits : int
    level : float
    exact : bool
        Clopper-Pearson intervals, which cover at least as often as `level` at every angle. If
        False, mid-P intervals: narrower, and right on average over angles.
    """
    check_int("n_bits", n_bits, 1, 2**20)
    check_level(level)
    d = np.arange(n_bits + 1, dtype=np.float64)
    tail = (1 - level) / 2
    if exact:
        low, high = _clopper_pearson(d, n_bits, tail)
    else:
        low = _mid_p(d, n_bits, tail)
        high = 1 - low[::-1]
    return Calibration(math.pi * d / n_bits, math.pi * low, math.pi * high, level, 0)


@dataclass(frozen=True)
class Radius:
    """A Hamming radius for a rate of false matches.

    Attributes
    ----------
    radius : int
    rate : float
        Share of the unrelated pairs that match within the radius.
    bound : float
        Upper bound on that share among all pairs, at the confidence that was asked for.
    n_pairs : int
        Pairs that the bound rests on.
    """

    radius: int
    rate: float
    bound: float
    n_pairs: int


def radius_for_rate(
    distances: ArrayLike, n_bits: int, rate: float, confidence: float = 0.95
) -> Radius:
    """Return the largest radius at which at most a share `rate` of unrelated pairs match.

    Parameters
    ----------
    distances : (n,) array_like of int
        Hamming distances of unrelated pairs, for instance of items of different classes.
    n_bits : int
    rate : float
        Above 0 and below 1.
    confidence : float
        Probability with which the bound is right.

    Raises
    ------
    InvalidInput
        There are too few pairs for so small a rate, or more unrelated pairs than that have equal
        codes.
    """
    d = _checked_distances(distances, n_bits)
    return radius_for_counts(np.bincount(d, minlength=n_bits + 1), rate, confidence)


def least_pairs(rate: float, confidence: float = 0.95) -> int:
    """Return how many unrelated pairs it takes to bound a rate of false matches.

    Raise InvalidInput for a rate or a confidence out of its range.
    """
    if not 0 < rate < 1:
        raise InvalidInput(f"the rate of false matches must be above 0 and below 1, got {rate}")
    if not 0.5 <= confidence < 1:
        raise InvalidInput(f"the confidence must be from 0.5 to below 1, got {confidence}")
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate))


def radius_for_counts(counts: NDArray[np.int64], rate: float, confidence: float = 0.95) -> Radius:
    """Do what `radius_for_rate` does, from the number of pairs at each distance from 0 to m."""
    least, n = least_pairs(rate, confidence), int(counts.sum())
    if n < least:
        raise InvalidInput(
            f"a rate of false matches of {rate:g} needs at least {least:,} unrelated pairs, got "
            f"{n:,}"
        )
    matches = counts.cumsum().astype(np.float64)
    # Where all pairs match, no bound below 1 holds.
    bounds = np.where(
        matches < n, betaincinv(matches + 1, np.maximum(n - matches, 1), confidence), 1
    )
    good = np.flatnonzero(bounds <= rate)
    if not len(good):
        raise InvalidInput(
            f"no radius has a rate of false matches of {rate:g}: {matches[0] / n:.2g} of the "
            f"{n:,} unrelated pairs have equal codes; longer codes are needed"
        )
    r = int(good[-1])
    return Radius(r, float(matches[r] / n), float(bounds[r]), n)


def check_level(level: float) -> None:
    """Raise InvalidInput unless a level of intervals is above 0.5 and below 1."""
    if not 0.5 < level < 1:
        raise InvalidInput(f"the level of intervals must be above 0.5 and below 1, got {level}")


def _checked_distances(distances: ArrayLike, n_bits: int) -> NDArray[np.int64]:
    check_int("n_bits", n_bits, 1, 2**20)
    d = np.asarray(distances)
    if d.ndim != 1 or (d.size and d.dtype.kind not in "iu"):
        raise InvalidInput(f"{LAW} needs a list of Hamming distances, got shape {d.shape}")
    d = d.astype(np.int64)
    if d.size and not (d.min() >= 0 and d.max() <= n_bits):
        raise InvalidInput(
            f"distances must be from 0 to n_bits = {n_bits}, got {d.min()}, {d.max()}"
        )
    return d


def _isotonic(d: NDArray[np.int64], values: Float64Array, n_bits: int) -> Float64Array:
    """Return the rising means of values at each distance.

    They are linear between the distances that occur, from 0 at distance 0 on.
    """
    counts = np.bincount(d, minlength=n_bits + 1)
    seen = np.flatnonzero(counts)
    means = np.bincount(d, values, minlength=n_bits + 1)[seen] / counts[seen]
    rising = never_falling(means, counts[seen].astype(np.float64))
    if seen[0] > 0:
        seen, rising = np.append(0, seen), np.append(0.0, rising)
    return np.asarray(np.interp(np.arange(n_bits + 1), seen, rising))


def never_falling(values: Float64Array, weights: Float64Array) -> Float64Array:
    """Return the values that never fall and are nearest in weighted squares.

    Neighbours that fall are pooled to their mean until none do: M. Ayer et al., "An Empirical
    Distribution Function for Sampling with Incomplete Information", 1955.
    """
    pools: list[tuple[float, float, int]] = []  # Mean, weight and number of values.
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, total, n = value, weight, 1
        while pools and pools[-1][0] >= mean:
            before, its, m = pools.pop()
            mean = (before * its + mean * total) / (its + total)
            total, n = total + its, n + m
        pools.append((mean, total, n))
    return np.repeat([mean for mean, _, _ in pools], [n for _, _, n in pools])


def _residual_bounds(
    d: NDArray[np.int64], residuals: Float64Array, n_bits: int, level: float
) -> tuple[Float64Array, Float64Array]:
    """Return the conformal bounds of residuals at each distance.

    Neighbouring distances share bounds until `_GROUP` pairs are among them.
    """
    tail = (1 - level) / 2
    least = max(_GROUP, math.ceil(1 / tail))
    group = _groups(np.bincount(d, minlength=n_bits + 1), least)
    below, above = np.empty(n_bits + 1), np.empty(n_bits + 1)
    for each in np.unique(group):
        own = np.sort(residuals[group[d] == each])
        k = math.floor((len(own) + 1) * tail)
        below[group == each], above[group == each] = own[max(k, 1) - 1], own[-max(k, 1)]
    return below, above


def _with_gaps(
    low: Float64Array, high: Float64Array, seen: NDArray[np.int64], n_bits: int, upper: float
) -> tuple[Float64Array, Float64Array]:
    """Return bounds at each distance from those at the distances that occur.

    Other distances get `low` of the next smaller of them, or 0, and `high` of the next larger, or
    `upper`.
    """
    every = np.arange(n_bits + 1)
    lows = np.append(0.0, low)[np.searchsorted(seen, every, side="right")]
    return lows, np.append(high, upper)[np.searchsorted(seen, every)]


def _groups(counts: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """Join neighbouring distances to groups of at least `least` pairs; return their numbers."""
    group = np.zeros(len(counts), np.int64)
    current = size = 0
    left = int(counts.sum())
    for i, count in enumerate(counts.tolist()):
        if size >= least and left >= least:
            current, size = current + 1, 0
        group[i] = current
        size, left = size + count, left - count
    return group


def _clopper_pearson(
    d: Float64Array, n_bits: int, tail: float
) -> tuple[Float64Array, Float64Array]:
    low, high = np.zeros(n_bits + 1), np.ones(n_bits + 1)
    low[1:] = betaincinv(d[1:], n_bits - d[1:] + 1, tail)
    high[:-1] = betaincinv(d[:-1] + 1, n_bits - d[:-1], 1 - tail)
    return low, high


def _mid_p(d: Float64Array, n_bits: int, tail: float) -> Float64Array:
    """Return p with P(D > d) + P(D = d) / 2 = tail for binomial D, by bisection; 0 at d = 0."""
    low, high = np.zeros(n_bits + 1), np.ones(n_bits + 1)
    for _ in range(_HALVINGS):
        p = (low + high) / 2
        at_least = np.where(d > 0, betainc(np.maximum(d, 1), n_bits - d + 1, p), 1)
        above = np.where(d < n_bits, betainc(d + 1, np.maximum(n_bits - d, 1), p), 0)
        small = (at_least + above) / 2 < tail
        low, high = np.where(small, p, low), np.where(small, high, p)
    return np.where(d > 0, low, 0)
