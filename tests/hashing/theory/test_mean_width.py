"""Mean widths of sets for which they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from hashing import InvalidInput
from hashing.theory.mean_width import (
    ceiling,
    dimension,
    mean_width,
    mean_width_of_set,
    widths_after_layers,
)

Reals = NDArray[np.float64]


def sphere(n: int, d: int, seed: int = 0) -> Reals:
    X = np.random.default_rng(seed).standard_normal((n, d))
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


def bases(k: int, n_spaces: int, n: int) -> list[Reals]:
    rng = np.random.default_rng(1)
    return [np.linalg.qr(rng.standard_normal((n, k)))[0] for _ in range(n_spaces)]


@pytest.mark.parametrize("n", [5, 30, 200])
def test_the_sphere_has_twice_the_mean_norm(n: int) -> None:
    width = mean_width_of_set(lambda g: np.linalg.norm(g, axis=1), n, 2000)
    exact = 2 * math.sqrt(2) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))
    assert width.value == pytest.approx(exact, rel=0.02)
    assert width.low <= exact <= width.high
    assert exact == pytest.approx(2 * math.sqrt(n), rel=1 / (3 * n))
    assert dimension(width).value == pytest.approx(n - 0.5, rel=0.04)


def test_points_on_a_sphere_of_few_dimensions_have_its_width() -> None:
    exact = 2 * math.sqrt(8 / math.pi)  # Of the sphere in three dimensions.
    assert mean_width(sphere(5000, 3), 2000).value == pytest.approx(exact, rel=0.02)


def test_the_interval_covers_the_width_of_two_points() -> None:
    # sup ⟨g, u - v⟩ of two points at a distance of 2 is |g| · 2.
    exact = 2 * math.sqrt(2 / math.pi)
    X = np.array([[1.0, 0], [-1, 0]])
    widths = [mean_width(X, 100, seed) for seed in range(200)]
    assert np.mean([w.low <= exact <= w.high for w in widths]) == pytest.approx(0.95, abs=0.04)


@pytest.mark.parametrize("k", [2, 5, 10, 40])
def test_sparse_vectors_grow_like_k_log_n_over_k(k: int) -> None:
    n = 1000

    def support(g: Reals) -> Reals:
        return np.asarray(np.sqrt(np.sort(g**2, axis=1)[:, -k:].sum(axis=1)))

    found = dimension(mean_width_of_set(support, n)).value
    assert found / (k * math.log(n / k)) == pytest.approx(1.8, abs=0.12)


@pytest.mark.parametrize("k", [4, 20])
def test_subspaces_grow_like_k_plus_log_of_their_number(k: int) -> None:
    found = []
    for n_spaces in (1, 6, 36):
        spaces = bases(k, n_spaces, 60)

        def support(g: Reals, spaces: list[Reals] = spaces) -> Reals:
            return np.asarray(np.max([np.linalg.norm(g @ Q, axis=1) for Q in spaces], axis=0))

        value = dimension(mean_width_of_set(support, 60, 400)).value
        assert k - 1 <= value <= (math.sqrt(k) + math.sqrt(2 * math.log(n_spaces))) ** 2
        found.append(value)
    # Equal steps of the logarithm give nearly equal steps.
    assert found[2] - found[1] == pytest.approx(found[1] - found[0], rel=0.35)


def test_points_of_a_mixture_have_the_width_of_its_subspaces() -> None:
    spaces = bases(3, 4, 100)
    X = np.concatenate([sphere(3000, 3, seed) @ Q.T for seed, Q in enumerate(spaces)])
    exact = mean_width_of_set(
        lambda g: np.max([np.linalg.norm(g @ Q, axis=1) for Q in spaces], axis=0), 100, 1000
    )
    assert mean_width(X, 1000).value == pytest.approx(exact.value, rel=0.04)


def test_points_do_not_exceed_their_ceiling() -> None:
    for n in (10, 1000):
        assert dimension(mean_width(sphere(n, 500))).value < ceiling(n)


def test_a_layer_keeps_between_half_and_all_of_the_squared_width() -> None:
    X = sphere(200, 2) @ bases(2, 1, 30)[0].T
    widths = [width.value**2 for width in widths_after_layers(X, 1024, 2)]
    assert 0.5 <= widths[1] / widths[0] <= 1
    assert 0.5 <= widths[2] / widths[1] <= 1
    # A small set away from the origin is not cut by most units: nothing but the energy is lost.
    near = np.array([1.0] + 29 * [0]) + 0.01 * X
    kept = [width.value**2 for width in widths_after_layers(near, 1024, 2, 1000)]
    assert kept[1] / kept[0] == pytest.approx(1, abs=0.1)
    assert kept[2] / kept[0] == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1.0, 2]], "at least 2 descriptors, got 1"),
        ([[1.0, 2]] * 5, "two different descriptors: these are constant"),
        ([[1.0, np.nan]] * 5, "must be finite"),
    ],
)
def test_what_is_needed_is_said(X: list[list[float]], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        mean_width(X)
