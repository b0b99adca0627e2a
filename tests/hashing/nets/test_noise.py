"""The default noise, against covariances whose eigenvalues are known."""

from __future__ import annotations

import numpy as np
import pytest

from hashing.nets.views import default_noise, typical_spread


@pytest.mark.parametrize("n", [40, 4000])
def test_the_typical_spread_is_that_of_the_covariance_also_for_few_rows(n: int) -> None:
    variances = np.repeat([9.0, 1.0, 0.25], [4, 20, 36])
    expected = np.sqrt((variances**2).sum() / variances.sum())
    found = [
        typical_spread((rng.normal(size=(n, 60)) * np.sqrt(variances)).astype(np.float32))
        for rng in map(np.random.default_rng, range(50))
    ]
    assert np.mean(found) == pytest.approx(expected, rel=0.05)


def test_the_noise_falls_with_the_rows_within_its_limits() -> None:
    rng = np.random.default_rng(0)

    def noise(n: int, copies: int) -> float:
        """The noise for n rows whose dimensions are equal in groups of `copies`."""
        columns = rng.normal(size=(n, 200 // copies)).astype(np.float32)
        return default_noise(np.repeat(columns, copies, axis=1), 0.1)

    assert noise(4000, 1) == pytest.approx(0.5)
    assert noise(100_000, 1) == pytest.approx(0.1)
    assert noise(500, 1) == pytest.approx(0.5, rel=0.05)
    assert noise(500, 50) == pytest.approx(2**0.5)
    assert noise(50, 50) == pytest.approx(0.5 * 50**0.5, rel=0.3)
    assert default_noise(np.zeros((3, 2), np.float32), 0.1) == 0.1
