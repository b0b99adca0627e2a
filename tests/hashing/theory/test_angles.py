"""The laws of angles and distances against numerical integrals and random layers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import dblquad

from hashing import InvalidInput
from hashing.theory.angles import angle_bins, cosine_after, psi, squared_distance_after


def kernel(angle: float) -> float:
    """E ρ(⟨a, u⟩) ρ(⟨a, v⟩) for unit vectors, by integration over the plane that they span."""
    value, _ = dblquad(
        lambda t, r: (
            r**3
            * math.exp(-(r**2) / 2)
            * max(math.cos(t), 0)
            * max(math.cos(t - angle), 0)
            / (2 * math.pi)
        ),
        0,
        8,
        angle - math.pi / 2,
        math.pi / 2,
    )
    return float(value)


@pytest.mark.parametrize("angle", [0.1, 1.0, 2.0, 3.0])
def test_the_laws_are_those_of_the_integral(angle: float) -> None:
    inner = kernel(angle)
    assert math.cos(angle) + psi(angle) == pytest.approx(2 * inner, abs=1e-7)
    assert cosine_after(angle) == pytest.approx(2 * inner, abs=1e-7)
    # ‖ρ(Au) − ρ(Av)‖² for ‖u‖ = 2 and ‖v‖ = 3.
    expected = (4 + 9) / 2 - 2 * 6 * inner
    assert squared_distance_after(angle, 2, 3) == pytest.approx(expected, abs=1e-6)
    straight = 4 + 9 - 12 * math.cos(angle)
    assert expected == pytest.approx(straight / 2 - 6 * psi(angle), abs=1e-6)


def test_psi_is_measured_within_its_standard_error() -> None:
    """2 ⟨ρ(Au), ρ(Av)⟩ − cos α has the mean ψ(α), for every number of units."""
    angles = np.linspace(0.1, 3.1, 8)
    rng = np.random.default_rng(0)
    u, V = np.array([1.0, 0]), np.array([np.cos(angles), np.sin(angles)])
    deviations = []
    for angle, v in zip(angles, V.T, strict=True):
        A = rng.normal(0, 1, (200_000, 2))
        terms = 2 * np.maximum(A @ u, 0) * np.maximum(A @ v, 0)
        error = terms.std() / math.sqrt(len(A))
        assert error < 0.006
        deviations.append((terms.mean() - math.cos(angle) - psi(angle)) / error)
    # Of eight deviations in standard errors, all are below 3, and they are about 1 in the mean.
    assert np.abs(deviations).max() < 3
    assert 0.5 < math.sqrt(np.mean(np.square(deviations))) < 1.5


def test_the_sign_of_psi_is_minus() -> None:
    rng = np.random.default_rng(0)
    u, v = np.array([1.0, 0]), np.array([math.cos(2), math.sin(2)])
    A = rng.normal(0, 1 / math.sqrt(400_000), (400_000, 2))
    measured = np.square(np.maximum(A @ u, 0) - np.maximum(A @ v, 0)).sum()
    assert measured == pytest.approx(squared_distance_after(2.0), abs=0.01)
    assert measured == pytest.approx(0.862, abs=0.01)
    assert measured < 1  # A plus would give 1.971.


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_distances_keep_between_a_quarter_and_a_half(n_layers: int) -> None:
    angle = np.linspace(1e-3, math.pi, 200)
    ratio = squared_distance_after(angle, n_layers=n_layers) / (2 - 2 * np.cos(angle))
    assert (ratio <= 0.5**n_layers + 1e-9).all()
    assert (ratio >= 0.25**n_layers - 1e-9).all()
    if n_layers == 1:
        assert ratio[-1] == pytest.approx(0.25)
        assert ratio[0] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_measured_bins_agree_with_the_law_within_their_error(n_layers: int) -> None:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((100, 3)) @ rng.standard_normal((3, 20))
    bins = angle_bins(X, 512, n_layers, n_bins=6, n_draws=6)
    assert bins[0].angle < 0.2
    assert bins[-1].angle > 2.3
    for each in bins:
        # Twice the 95 % interval: six bins that share their draws must all pass.
        half = each.cosine.high - each.cosine.value
        assert abs(each.cosine.value - each.cosine_expected) <= 2 * half + 1e-4
        assert each.cosine.value == pytest.approx(each.cosine_expected, abs=0.02)
        found, expected = each.squared_distance, each.squared_distance_expected
        assert found.value == pytest.approx(expected, rel=0.08)


def test_what_is_needed_is_said() -> None:
    with pytest.raises(InvalidInput, match="at least 10 descriptors, got 9"):
        angle_bins(np.eye(9))
    with pytest.raises(InvalidInput, match="that differ from their mean: 0 do"):
        angle_bins(np.ones((20, 3)))
