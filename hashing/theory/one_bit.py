"""One-bit recovery: what can be recovered of a descriptor from its code alone.

The law
-------
For a unit vector u of n dimensions and m Gaussian hyperplanes A with a_ij ~ N(0, 1),
E sign(⟨a, u⟩) a = √(2/π) u. So √(π/2) Aᵀ sign(Au) / m estimates u without bias, and its expected
squared error is (π n / 2 − 1) / m. For u of a set K, the best estimates have an error that falls
like a power of m / ω²(K). The code keeps the direction of u, but not its length: from the code
and the hyperplanes, anyone can compute the descriptor up to this error.

With descriptors of the same kind and their codes, no hyperplanes are needed: linear regression from
bits to descriptors (`regression_recovery`) works for every encoder, also for trained ones.

Where it stops
--------------
Regression is a lower bound of what can be recovered; stronger methods may recover more. Short codes
of trained encoders keep little but the class.

Source
------
Y. Plan, R. Vershynin, "Robust 1-bit compressed sensing and sparse logistic regression: a convex
programming approach", IEEE Trans. Information Theory 59(1), 2013. The constant π n / 2 − 1 follows
from E |g| = √(2/π).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve

from hashing.arrays import Float64Array
from hashing.theory.samples import Estimate, checked
from hashing.validation import InvalidInput

LAW = "one-bit recovery"
LEAST = 20
"""Fewest descriptors: half of them are known to the attacker, half are to be recovered."""


@dataclass(frozen=True)
class Recovery:
    """What regression recovers of descriptors that it has not seen.

    Attributes
    ----------
    cosine : Estimate
        Mean cosine between the descriptor and what was recovered, both less the mean.
    lost : Estimate
        Share of the squared distance from the mean that was not recovered: 0 is everything
        recovered, 1 nothing.
    """

    cosine: Estimate
    lost: Estimate


def recover_directions(signs: ArrayLike, A: Float64Array) -> Float64Array:
    """Return √(π/2) Aᵀ sign(Au) / m for signs, (n, m), and hyperplanes A, (d, m)."""
    signs = np.asarray(signs, np.float64)
    return np.asarray(math.sqrt(math.pi / 2) / A.shape[1] * (signs @ A.T))


def expected_squared_error(dimension: int, n_bits: int) -> float:
    """Return (π n / 2 − 1) / m, the expected squared error of `recover_directions`."""
    return (math.pi / 2 * dimension - 1) / n_bits


def regression_recovery(X: ArrayLike, bits: NDArray[np.uint8], seed: int = 0) -> Recovery:
    """Recover half of the descriptors from their codes, by ridge regression on the other half.

    Parameters
    ----------
    X : (n, d) array_like
        At least `LEAST` descriptors.
    bits : (n, m) uint8
        Their codes, unpacked.
    seed : int
        Of the split into halves.
    """
    X = checked(X, LEAST, LAW)
    order = np.random.default_rng(seed).permutation(len(X))
    known, hidden = order[: len(X) // 2], order[len(X) // 2 :]
    mean = X[known].mean(axis=0)
    target = X[hidden] - mean
    energy = np.square(target).sum(axis=1)
    if not energy.mean() > 1e-18 * np.square(X).max():
        raise InvalidInput(f"{LAW} needs different descriptors: these are constant")
    found = _regress(bits[known], X[known] - mean, bits[hidden])
    lost = np.square(found - target).sum(axis=1) / energy.mean()
    norms = np.linalg.norm(found, axis=1) * np.sqrt(energy)
    cosines = np.einsum("ij,ij->i", found, target) / np.where(norms > 0, norms, 1)
    return Recovery(Estimate.of_mean(cosines), Estimate.of_mean(lost))


def _regress(bits: NDArray[np.uint8], Y: Float64Array, new: NDArray[np.uint8]) -> Float64Array:
    """Return the prediction of Y for new bits; the ridge is chosen on a fifth of the items."""
    centre = bits.mean(axis=0)
    B = bits - centre
    cut = max(1, len(B) // 5)
    test, rest = B[:cut], slice(cut, None)
    scores = {}
    for ridge in (0.01, 0.1, 1.0, 10.0):
        error = test @ _solve(B[rest], Y[rest], ridge) - Y[:cut]
        scores[ridge] = float(np.square(error).sum())
    best = min(scores, key=lambda ridge: scores[ridge])
    return np.asarray((new - centre) @ _solve(B, Y, best))


def _solve(B: Float64Array, Y: Float64Array, ridge: float) -> Float64Array:
    """Return ridge regression weights; the ridge is in units of the mean variance of a bit."""
    gram = B.T @ B
    gram[np.diag_indices_from(gram)] += ridge * max(float(np.trace(gram)) / len(gram), 1e-12)
    return np.asarray(cho_solve(cho_factor(gram), B.T @ Y))
