"""Local intrinsic dimension from the two nearest neighbours of each item.

The law
-------
Where points lie with nearly constant density on a manifold of dimension d, the ratio μ = r₂ / r₁ of
the distances to the second and the first neighbour has P(μ > x) = x⁻ᵈ. The sum of ln μ over n items
is then Gamma(n, 1/d), so d ≈ (n − 1) / Σ ln μ, with an exact interval from the χ² distribution.

It tells how many directions the data have at the distance of nearest neighbours; the mean width
(`hashing.theory.mean_width`) tells how large the whole set is.

Where it stops
--------------
Above about 10 to 20 dimensions the estimate is too low, unless there are exponentially many items.
The density is not constant there, and neighbours are shared, so that the ratios depend on each
other. Items with an equal twin (r₁ = 0) are left out.

Source
------
E. Facco, M. d'Errico, A. Rodriguez, A. Laio, "Estimating the intrinsic dimension of datasets by a
minimal neighborhood information", Scientific Reports 7:12140, 2017. Deviation: maximum likelihood
rather than a line through the empirical distribution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaincinv

from hashing.arrays import Float64Array
from hashing.theory.samples import LEVEL, Estimate, checked, squared_distances
from hashing.validation import InvalidInput

LAW = "the local dimension"
LEAST = 10
"""Fewest items that differ from their neighbours."""


def local_dimension(X: ArrayLike) -> Estimate:
    """Return the dimension by the two-nearest-neighbours law.

    Raises
    ------
    InvalidInput
        Fewer than `LEAST` descriptors differ from all others.
    """
    X = checked(X, LEAST, LAW)
    logs = neighbour_log_ratios(X)
    n, total = len(logs), float(logs.sum())
    if n < LEAST or total <= 0:
        raise InvalidInput(
            f"{LAW} needs at least {LEAST} descriptors that differ from all others, got {n}"
        )
    tail = (1 - LEVEL) / 2
    low, high = (float(gammaincinv(n, p)) / total for p in (tail, 1 - tail))
    return Estimate((n - 1) / total, low, high)


def neighbour_log_ratios(X: Float64Array) -> Float64Array:
    """Return ln(r₂ / r₁) of each row; rows with an equal twin are left out."""
    X = X - X.mean(axis=0)  # Small numbers keep more digits of small distances.
    # The rounding of the squares: distances below it count as zero.
    least = 1e-13 * float(np.einsum("ij,ij->i", X, X).max(initial=0))
    found = []
    for rows, block in squared_distances(X, X):
        own = np.arange(len(block))
        block[own, rows.start + own] = np.inf
        two = np.partition(block, 1, axis=1)[:, :2]
        found.append(two[two[:, 0] > least])
    squares = np.concatenate(found)
    return np.asarray(np.log(squares[:, 1] / squares[:, 0]) / 2)
