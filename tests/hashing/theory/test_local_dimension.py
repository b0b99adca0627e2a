"""The dimension of manifolds for which it is known."""

from __future__ import annotations

import numpy as np
import pytest

from hashing import InvalidInput
from hashing.theory.local_dimension import local_dimension


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_dimension_of_a_cube_in_many_dimensions(d: int) -> None:
    rng = np.random.default_rng(d)
    found = local_dimension(rng.uniform(size=(3000, d)) @ rng.standard_normal((d, 40)))
    assert found.value == pytest.approx(d, rel=0.07)
    assert found.low < found.value < found.high


def test_the_dimension_of_a_curved_surface() -> None:
    X = np.random.default_rng(0).standard_normal((3000, 3))
    found = local_dimension(X / np.linalg.norm(X, axis=1, keepdims=True))
    assert found.value == pytest.approx(2, rel=0.06)


def test_equal_twins_and_a_distant_origin_change_nothing() -> None:
    X = np.random.default_rng(0).uniform(size=(1500, 2))
    alone = local_dimension(X)
    twins = np.concatenate([X, np.repeat(X[:1], 50, axis=0) + 7])
    assert local_dimension(twins).value == pytest.approx(alone.value, rel=0.01)
    assert local_dimension(X + 1e4).value == pytest.approx(alone.value, rel=1e-3)


@pytest.mark.parametrize(
    ("n", "twins", "message"),
    [
        (9, 1, "at least 10 descriptors, got 9"),
        (20, 2, "differ from all others, got 0"),
        (20, 20, "differ from all others, got 0"),
    ],
)
def test_what_is_needed_is_said(n: int, twins: int, message: str) -> None:
    X = np.random.default_rng(0).standard_normal((n // twins, 3))
    with pytest.raises(InvalidInput, match=message):
        local_dimension(np.repeat(X, twins, axis=0))
