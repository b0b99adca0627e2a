"""Farthest-first traversal against its definition, and Sudakov's bound against packings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hashing import InvalidInput
from hashing.theory.covering import SUDAKOV, farthest_first, sudakov_bound
from hashing.theory.mean_width import mean_width


def test_the_items_taken_are_a_net_and_apart() -> None:
    X = np.random.default_rng(0).standard_normal((300, 4))
    taken, radii = farthest_first(X, 40)
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    assert taken[0] == np.linalg.norm(X - X.mean(axis=0), axis=1).argmin()
    assert len(set(taken)) == 40
    for i in range(1, 40):
        before = distances[:, taken[:i]].min(axis=1)
        assert radii[i] == pytest.approx(before.max())
        assert before[taken[i]] == pytest.approx(radii[i])
    apart = distances[np.ix_(taken, taken)][np.triu_indices(40, 1)]
    assert apart.min() >= radii[-1] - 1e-9


def test_centres_count_as_taken_before() -> None:
    X = np.array([[0.0], [1], [2], [10]])
    taken, radii = farthest_first(X, 2, np.array([3]))
    assert taken.tolist() == [0, 2]
    assert radii == pytest.approx([10, 2])


def test_twins_are_not_taken_twice() -> None:
    X = np.repeat(np.random.default_rng(0).standard_normal((5, 3)) + 1e3, 4, axis=0)
    taken, radii = farthest_first(X, 20)
    assert len(taken) == len(radii) == 5


@pytest.mark.parametrize("n", [2, 10, 1000])
def test_the_largest_of_gaussians_is_above_the_bound_that_gives_the_constant(n: int) -> None:
    largest = np.random.default_rng(0).standard_normal((4000, n)).max(axis=1).mean()
    # Two Gaussians meet the bound: 1 / √π.
    assert largest >= math.sqrt(math.log(n) / (math.pi * math.log(2))) * (1 if n > 2 else 0.96)
    assert pytest.approx(math.pi * math.log(2) / 2) == SUDAKOV


@pytest.mark.parametrize("d", [2, 5, 50])
def test_packings_stay_below_sudakovs_bound(d: int) -> None:
    X = np.random.default_rng(d).standard_normal((500, d))
    width = mean_width(X, 500).value
    _, radii = farthest_first(X, 200)
    for n, radius in enumerate(radii[1:], start=2):
        assert math.log(n) <= sudakov_bound(width, radius)


def test_two_points_meet_sudakovs_bound() -> None:
    width = 2 * math.sqrt(2 / math.pi)  # ω of two points at a distance of 2.
    assert sudakov_bound(width, 2) == pytest.approx(math.log(2))


def test_what_is_needed_is_said() -> None:
    with pytest.raises(InvalidInput, match="n must be from 1 to 3"):
        farthest_first(np.eye(3), 4)
    with pytest.raises(InvalidInput, match="epsilon must be above 0"):
        sudakov_bound(1.0, 0)
