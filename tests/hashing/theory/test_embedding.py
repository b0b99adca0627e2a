"""Distortions of random hyperplanes against measured and binomial figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hashing import InvalidInput
from hashing.theory.embedding import bound, distortions, fit
from hashing.theory.samples import Estimate


def subspace(n: int, k: int = 3, d: int = 30) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rng = np.random.default_rng(7)
    X = rng.standard_normal((n, k)) @ rng.standard_normal((k, d))
    return np.asarray(X - X.mean(axis=0))


def test_suprema_of_a_subspace_fall_like_the_root_of_the_bits() -> None:
    # 300 points of a subspace of dimension 3 gave these suprema elsewhere.
    found = distortions(subspace(300), [100, 400, 1600, 6400], n_draws=3)
    suprema = [each.supremum.value for each in found]
    assert suprema == pytest.approx([0.158, 0.087, 0.037, 0.021], rel=0.25)
    fitted = fit(found, Estimate(3.2, 3.1, 3.3))
    assert fitted.exponent.value == pytest.approx(-0.5, abs=0.06)
    assert fitted.exponent.low < fitted.exponent.value < fitted.exponent.high
    # The fitted bound holds at every length, and touches the first.
    deltas = [bound(each.n_bits, 3.2, fitted.constant) for each in found]
    assert all(s <= delta * (1 + 1e-9) for s, delta in zip(suprema, deltas, strict=True))
    assert deltas[0] == pytest.approx(suprema[0])


def test_the_median_is_that_of_the_binomial_law() -> None:
    # Vectors in many dimensions are nearly orthogonal: d_S is near 1/2, of variance 1 / 4m.
    X = np.random.default_rng(0).standard_normal((120, 200))
    found = distortions(X, [256], n_draws=3)[0]
    deviation = 1 / math.sqrt(4 * 256)
    assert found.median == pytest.approx(0.6745 * deviation, rel=0.1)
    assert found.percentile_95 == pytest.approx(1.96 * deviation, rel=0.1)


def test_both_directions_and_cells_are_within_the_supremum() -> None:
    for each in distortions(subspace(200), [8, 32, 128], n_draws=3):
        assert min(each.too_far, each.too_near) > 0
        assert max(each.too_far, each.too_near) <= each.supremum.value + 1e-12
        assert each.cell_diameter is None or 0 < each.cell_diameter <= each.supremum.high + 0.1
    assert distortions(subspace(200), [8], n_draws=1)[0].cell_diameter is not None
    assert distortions(np.eye(5), [256], n_draws=1)[0].cell_diameter is None


def test_two_opposite_points_are_not_bent_at_all() -> None:
    found = distortions(np.array([[1.0, 0], [-1, 0], [1, 0], [-1, 0]]), [64])[0]
    assert found.supremum.value == pytest.approx(0, abs=1e-7)


def test_codes_that_bend_nothing_have_no_exponent() -> None:
    line = np.outer(np.arange(20), [1.0, 2, 3])
    with pytest.raises(InvalidInput, match="needs descriptors in more than two directions"):
        fit(distortions(line, [8, 16, 32]), Estimate(1.6, 1.5, 1.7))


def test_what_is_needed_is_said() -> None:
    with pytest.raises(InvalidInput, match="at least 3 descriptors, got 2"):
        distortions(np.eye(2), [64])
    with pytest.raises(InvalidInput, match="differ from their mean: 0 do"):
        distortions(np.full((50, 4), 0.1, np.float32), [64])
    with pytest.raises(InvalidInput, match="at least 3 code lengths"):
        fit(distortions(subspace(20), [8, 16]), Estimate(3, 3, 3))
