"""Intervals against exact binomial sums, and against held-out pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import binom, binomtest

from bitcodes import unpack
from hashing import InvalidInput, make_hasher
from hashing.theory.calibration import (
    LEAST_PAIRS,
    Calibration,
    binomial_angles,
    never_falling,
    radius_for_rate,
)
from hashing.theory.samples import angles_between, random_pairs, unit

Pairs = tuple[NDArray[np.int64], NDArray[np.float64]]


def mixture(
    n: int, seed: int, d: int = 24, n_classes: int = 8
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Gaussian clusters; the centres are the same for every seed."""
    centres = 1.2 * np.random.default_rng(99).standard_normal((n_classes, d))
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    return centres[y] + rng.standard_normal((n, d)), y


def pairs_of(bits: NDArray[np.uint8], X: NDArray[np.float64], n: int, seed: int) -> Pairs:
    first, second = random_pairs(len(X), n, np.random.default_rng(seed))
    U = unit(X)
    distances = (bits[first] != bits[second]).sum(axis=1)
    return distances, angles_between(U[first], U[second])


def covered(
    calibration: Calibration, distances: NDArray[np.int64], values: NDArray[np.float64]
) -> float:
    inside = (calibration.low[distances] <= values) & (values <= calibration.high[distances])
    return float(inside.mean())


@pytest.mark.parametrize(("n_bits", "distance"), [(16, 0), (16, 5), (64, 64), (200, 31)])
def test_binomial_intervals_are_those_of_clopper_and_pearson(n_bits: int, distance: int) -> None:
    calibration = binomial_angles(n_bits, level=0.9)
    expected = binomtest(distance, n_bits).proportion_ci(0.9, "exact")
    assert calibration.low[distance] == pytest.approx(math.pi * expected.low, abs=1e-9)
    assert calibration.high[distance] == pytest.approx(math.pi * expected.high, abs=1e-9)
    assert calibration.value[distance] == pytest.approx(math.pi * distance / n_bits)


@pytest.mark.parametrize("n_bits", [16, 64, 256])
def test_exact_coverage_of_binomial_intervals(n_bits: int) -> None:
    p = np.linspace(0.01, 0.99, 197)[:, None]
    weights = binom.pmf(np.arange(n_bits + 1), n_bits, p)

    def coverage(exact: bool) -> NDArray[np.float64]:
        found = binomial_angles(n_bits, level=0.9, exact=exact)
        inside = (found.low <= math.pi * p) & (math.pi * p <= found.high)
        return np.asarray((weights * inside).sum(axis=1))

    assert coverage(True).min() >= 0.9 - 1e-9
    # Short codes have so few distances that mid-P intervals are still a little wide.
    assert coverage(False).mean() == pytest.approx(0.9, abs=0.007 if n_bits > 16 else 0.02)


def test_the_binomial_covers_held_out_pairs_of_lsh() -> None:
    X, _ = mixture(4000, seed=1)
    shares, mid_shares = [], []
    for seed in range(8):
        hasher = make_hasher("lsh", n_bits=256, center=False, random_state=seed).fit(X)
        pairs = pairs_of(unpack(hasher.encode(X), 256), X, 4000, seed)
        shares.append(covered(binomial_angles(256), *pairs))
        mid_shares.append(covered(binomial_angles(256, exact=False), *pairs))
    assert 0.88 <= np.mean(shares) <= 0.925
    assert 0.88 <= np.mean(mid_shares) <= 0.92


@pytest.mark.parametrize("method", ["lsh", "ksh"])
def test_conformal_intervals_cover_held_out_pairs(method: str) -> None:
    X, y = mixture(4000, seed=1)
    params = {} if method == "lsh" else {"n_anchors": 50}
    hasher = make_hasher(method, n_bits=16, random_state=0, **params).fit(X[:200], y[:200])
    known = pairs_of(unpack(hasher.encode(X), 16), X, 6000, 2)
    new, _ = mixture(4000, seed=3)
    distances, angles = pairs_of(unpack(hasher.encode(new), 16), new, 20000, 4)
    calibration = Calibration.fit(*known, n_bits=16, level=0.9, seed=5)
    assert 0.88 <= covered(calibration, distances, angles) <= 0.92
    # Also among near pairs alone, for which a single width of the interval would not hold.
    near = distances <= np.quantile(distances, 0.25)
    assert 0.86 <= covered(calibration, distances[near], angles[near]) <= 0.94
    assert (np.diff(calibration.value) >= 0).all()
    assert calibration.n_pairs == 6000


def test_conformal_intervals_find_the_binomial_law() -> None:
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, math.pi, 40000)
    distances = rng.binomial(64, angles / math.pi)
    found, law = Calibration.fit(distances, angles, 64), binomial_angles(64)
    # The mean of p given d, if p is uniform beforehand.
    expected = math.pi * np.arange(1, 66) / 66
    middle = slice(8, 57)
    assert found.value[middle] == pytest.approx(expected[middle], abs=0.05)
    assert found.low[middle] == pytest.approx(law.low[middle], abs=0.1)
    assert found.high[middle] == pytest.approx(law.high[middle], abs=0.1)


def test_the_radius_keeps_the_rate_of_false_matches() -> None:
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(60):
        found = radius_for_rate(rng.binomial(64, 0.4, 20000), 64, 1e-3, confidence=0.95)
        rates.append(binom.cdf(found.radius, 64, 0.4))
        assert found.rate <= found.bound <= 1e-3
    # The bound is right in 95 % of cases, and never far off.
    assert np.mean(np.array(rates) <= 1e-3) >= 0.93
    assert max(rates) <= 1.2e-3
    # It is not idle: the largest radius that keeps the rate is found, or the one below.
    best = int(np.flatnonzero(binom.cdf(np.arange(65), 64, 0.4) <= 1e-3)[-1])
    assert found.radius in (best, best - 1)


def test_too_few_pairs_are_refused_with_the_number_needed() -> None:
    with pytest.raises(InvalidInput, match=f"at least {LEAST_PAIRS} pairs, got 10"):
        Calibration.fit(np.arange(10), np.arange(10.0), 16)
    with pytest.raises(InvalidInput, match="needs at least 2,995 unrelated pairs, got 2,994"):
        radius_for_rate(np.full(2994, 30), 64, 1e-3)
    assert radius_for_rate(np.full(2995, 30), 64, 1e-3).radius == 29
    with pytest.raises(InvalidInput, match="longer codes are needed"):
        radius_for_rate(np.zeros(5000, int), 8, 0.01)


@pytest.mark.parametrize(
    ("distances", "values", "level", "message"),
    [
        (np.full(500, 17), np.ones(500), 0.9, "from 0 to n_bits = 16"),
        (np.full(500, -1), np.ones(500), 0.9, "from 0 to n_bits = 16"),
        (np.full(500, 1.5), np.ones(500), 0.9, "list of Hamming distances"),
        (np.full(500, 3), np.ones(499), 0.9, "one finite value"),
        (np.full(500, 3), np.full(500, np.nan), 0.9, "one finite value"),
        (np.full(500, 3), np.ones(500), 1.0, "level of intervals"),
    ],
)
def test_wrong_pairs_are_refused(
    distances: NDArray[np.float64], values: NDArray[np.float64], level: float, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        Calibration.fit(distances, values, 16, level=level)


def test_pairs_of_one_distance_have_one_interval() -> None:
    values = np.random.default_rng(0).uniform(1, 2, 1000)
    found = Calibration.fit(np.full(1000, 3), values, 16)
    assert found.low[3] == pytest.approx(1.05, abs=0.03)
    assert found.high[3] == pytest.approx(1.95, abs=0.03)


def test_intervals_between_the_distances_that_occur() -> None:
    """Equal codes with equal items, and pairs at 6 to 8: nothing is known in between."""
    rng = np.random.default_rng(0)
    distances = rng.integers(6, 9, 3000)
    values = distances / 4 + rng.normal(0, 0.1, 3000)
    far = Calibration.fit(distances, values, 16, upper=math.pi)
    np.testing.assert_allclose(far.value[:7], far.value[6] * np.arange(7) / 6)
    assert (far.low[:6] == 0).all()
    assert (far.high[:6] == far.high[6]).all()
    assert (far.value[9:] == far.value[8]).all()
    assert (far.low[9:] == far.low[8]).all()
    assert (far.high[9:] == math.pi).all()
    assert np.isinf(Calibration.fit(distances, values, 16).high[9:]).all()
    # Half of the pairs at 0: distances from 1 to 5 lie between both.
    distances[::2], values[::2] = 0, 0
    both = Calibration.fit(distances, values, 16, upper=math.pi)
    assert (both.low[1:6] == both.low[0]).all()
    assert (both.high[1:6] == both.high[6]).all()
    assert both.high[0] < 0.2 < both.high[6]
    with pytest.raises(InvalidInput, match="values of at most 1, got"):
        Calibration.fit(distances, values, 16, upper=1)


def test_isotonic_values_are_those_of_scipy() -> None:
    rng = np.random.default_rng(3)
    for n in (1, 2, 40):
        values, weights = rng.normal(size=n) + np.arange(n) / 20, rng.integers(1, 9, n)
        expected = isotonic_regression(values, weights=weights).x
        np.testing.assert_allclose(never_falling(values, weights.astype(np.float64)), expected)
