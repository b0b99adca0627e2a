"""Averages over queries, and their confidence intervals."""

from __future__ import annotations

import numpy as np

from app.benchmark.tied_rankings import Reals
from hashing import InvalidInput


def mean(precisions: Reals) -> float:
    """Return the mean over queries; those without a relevant item (NaN) are left out.

    Raises
    ------
    InvalidInput
        No query has a relevant item.
    """
    counted = precisions[~np.isnan(precisions)]
    if not counted.size:
        raise InvalidInput(f"none of the {len(precisions)} queries has a relevant item")
    return float(counted.mean())


def bootstrap_interval(precisions: Reals, seed: int, rounds: int = 1000) -> tuple[float, float]:
    """Return the 95 % interval of the mean, by resampling queries; NaN are left out."""
    counted = precisions[~np.isnan(precisions)]
    rng = np.random.default_rng(seed)
    means = [rng.choice(counted, len(counted)).mean() for _ in range(rounds)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
