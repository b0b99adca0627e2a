from __future__ import annotations

import numpy as np
import pytest

from app.benchmark.averages import bootstrap_interval


def test_the_bootstrap_interval_covers_the_mean_in_95_percent_of_samples() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval(rng.beta(2, 5, 80), seed, rounds=200)
        covered += low <= 2 / 7 <= high
    assert covered / 200 == pytest.approx(0.95, abs=0.05)
