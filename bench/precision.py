"""Mean average precision of 1,000 queries against 59,000 codes of 48 bits."""

from __future__ import annotations

import numpy as np

from app.benchmark.averages import mean
from app.benchmark.rank import rank_codes
from app.benchmark.tied_rankings import harmonic_numbers
from bench.measuring import seconds


def measure() -> dict[str, float]:
    """Return the seconds of the best of three runs."""
    rng = np.random.default_rng(0)
    queries, db = (rng.integers(0, 256, (n, 6), np.uint8) for n in (1000, 59_000))
    labels = rng.integers(0, 10, 60_000)

    def mean_average_precision() -> float:
        rankings, _ = rank_codes(queries, labels[:1000], db, labels[1000:])
        return mean(rankings.average_precision(harmonic_numbers(len(db))))

    return {"seconds": seconds(mean_average_precision, rounds=3)}
