"""Averages over queries and seeds, and their confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.benchmark.tied_rankings import Reals
from hashing import InvalidInput

LEVEL = 0.95
"""Share of intervals that cover what they estimate."""

_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


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


def confidence_interval(
    values: Sequence[Reals], classes: Sequence[NDArray[np.int64]], rounds: int = 1000
) -> tuple[float, float]:
    """Return the 95 % interval of the mean over seeds of the mean over queries.

    With two seeds or more it is for the mean over all seeds on the same dataset: over other
    queries, labels and random states. It reaches from the lower of two low ends to the higher of
    two high ends:

    - Student's t of the seeds' means. They are independent and each seed has queries of its own,
      so their variance holds all there is. A bootstrap of two to five seeds has no such
      correction for their small number: it covers the truth in 60 to 80 % of cases.
    - A bootstrap of the queries, with the seeds as they are. It keeps two seeds that happen to
      agree from giving an interval narrower than the queries allow.

    With one seed only the second is known. The interval is then for further queries of the same
    codes, and says nothing about another seed.

    Parameters
    ----------
    values : sequence of (q,) float64, one per seed
        A figure of each query, or its difference between two methods; NaN is left out.
    classes : sequence of (q,) int, one per seed
        The class of each query. A seed draws a fixed number of queries of each class, and so does
        the bootstrap.
    rounds : int
        Rounds of the bootstrap.

    References
    ----------
    This is the random-effects meta-analysis of a few equally precise studies. J. IntHout, J.
    Ioannidis, G. Borm, "The Hartung-Knapp-Sidik-Jonkman method for random effects meta-analysis is
    straightforward and considerably outperforms the standard DerSimonian-Laird method", BMC
    Medical Research Methodology 14:25, 2014; C. Röver, G. Knapp, T. Friede, "Hartung-Knapp-Sidik-
    Jonkman approach and its modification for random-effects meta-analysis with few studies", BMC
    Medical Research Methodology 15:99, 2015, also on intervals that are too narrow by chance.
    """
    means = np.array([mean(one) for one in values])
    rng = np.random.default_rng(0)
    resampled = np.mean(
        [resampled_means(*pair, rng, rounds) for pair in zip(values, classes, strict=True)], axis=0
    )
    low, high = np.quantile(resampled, _TAILS).tolist()
    if (n := len(means)) > 1:
        from scipy.special import stdtrit

        centre = float(means.mean())
        half = float(stdtrit(n - 1, _TAILS[1]) * means.std(ddof=1) / math.sqrt(n))
        low, high = min(low, centre - half), max(high, centre + half)
    return low, high


def resampled_means(
    values: Reals, classes: NDArray[np.int64], rng: np.random.Generator, rounds: int
) -> Reals:
    """Return the means of `rounds` samples of the queries, drawn class by class.

    From n queries of a class n - 1 are drawn, which makes the variance unbiased (J. Rao, C. Wu,
    "Resampling inference with complex survey data", JASA 83, 1988). Classes of one query are
    pooled.
    """
    counted = ~np.isnan(values)
    values = values[counted]
    _, stratum, sizes = np.unique(classes[counted], return_inverse=True, return_counts=True)
    stratum[sizes[stratum] == 1] = -1
    total = np.zeros(rounds)
    for each in np.unique(stratum):
        own = values[stratum == each]
        drawn = rng.integers(len(own), size=(rounds, max(1, len(own) - 1)))
        total += len(own) * own[drawn].mean(axis=1)
    return np.asarray(total / len(values))
