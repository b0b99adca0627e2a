"""Inversion: recover a descriptor from the output ρ(Au) of random relu layers.

The law
-------
With a_ij ~ N(0, 1/m), E Aᵀ ρ(Au) = ½ u. So 2 Aᵀ ρ(Au) estimates u without bias, and for a unit
vector of n dimensions its expected squared error is (2 n + 3) / m. For u of a small set, projecting
the estimate onto that set leaves the error in the directions of the set alone: about ω(K) / √m; on
a subspace of dimension k it is √((2 k + 3) / m). Several layers are undone one by one, from the
last; their errors add, so that the error grows at most linearly with their number.

If at least n of the m units are active, u is the solution of linear equations, and
`least_squares` finds it exactly: from the real outputs of a wide layer, nothing is lost at all.

Where it stops
--------------
The rate is for descriptors that really lie in the small set: of others, the part outside of it is
lost however large m is. A must be known, and must be random. Codes keep signs only
(`hashing.theory.one_bit`).

Source
------
Giryes, Sapiro, Bronstein 2016, on recovery of the input; Y. Plan, R. Vershynin, "The generalized
Lasso with non-linear observations", IEEE Trans. Information Theory 62(3), 2016. The constants
2 n + 3 follow from E ρ(g)² g² = 3/2 and E ρ(g)² = 1/2 for g ~ N(0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from hashing.arrays import Float64Array
from hashing.theory.samples import Estimate, checked
from hashing.validation import InvalidInput, check_int

LAW = "inversion"

Projection = Callable[[Float64Array], Float64Array]
"""Maps estimates, (n, d), to the nearest points of the set that descriptors lie in."""


def random_layers(sizes: Sequence[int], seed: int = 0) -> list[Float64Array]:
    """Return Gaussian matrices of layers, a_ij ~ N(0, 1/m): (sizes[l], sizes[l + 1]) each."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1 / math.sqrt(m), (n, m)) for n, m in pairwise(sizes)]


def forward(U: Float64Array, layers: Sequence[Float64Array]) -> Float64Array:
    """Return the output of relu layers."""
    for A in layers:
        U = np.maximum(U @ A, 0)
    return U


def back_project(
    outputs: Float64Array,
    layers: Sequence[Float64Array],
    projection: Projection | None = None,
) -> Float64Array:
    """Recover the inputs of relu layers, layer by layer, by 2 Aᵀ y; then project onto the set."""
    for A in reversed(layers):
        outputs = 2 * outputs @ A.T
    return outputs if projection is None else projection(outputs)


def least_squares(outputs: Float64Array, layer: Float64Array) -> Float64Array:
    """Recover the inputs of one relu layer from the equations of its active units.

    Exact where the active units of an item span its space; elsewhere the shortest solution.
    """
    return np.array(
        [np.linalg.lstsq(layer[:, y > 0].T, y[y > 0], rcond=None)[0] for y in outputs]
    ).reshape(len(outputs), len(layer))


def sparse_projection(k: int) -> Projection:
    """Return the projection onto vectors with at most k entries that are not 0."""

    def project(U: Float64Array) -> Float64Array:
        kept = np.argpartition(-np.abs(U), k - 1, axis=1)[:, :k]
        sparse = np.zeros_like(U)
        np.put_along_axis(sparse, kept, np.take_along_axis(U, kept, axis=1), axis=1)
        return sparse

    return project


def principal_subspace(X: ArrayLike, k: int) -> Float64Array:
    """Return an orthonormal basis, (d, k), of the k principal directions of centred descriptors."""
    X = checked(X, 2, LAW)
    check_int("k", k, 1, X.shape[1])
    if not np.ptp(X, axis=0).any():
        raise InvalidInput(f"{LAW} needs different descriptors: these are constant")
    _, vectors = np.linalg.eigh(np.cov(X, rowvar=False).reshape(X.shape[1], X.shape[1]))
    return np.asarray(vectors[:, ::-1][:, :k])


def errors(
    U: ArrayLike, n_units: int, n_layers: int, projection: Projection, seed: int = 0
) -> Estimate:
    """Return the mean relative error ‖û − u‖ / ‖u‖ after some layers of `n_units` units.

    Parameters
    ----------
    U : (n, d) array_like
        Vectors of the set that `projection` projects onto, none of them zero.
    n_units, n_layers : int
    projection : callable
    seed : int
        Of the layers. The interval is over items, under one draw of them.
    """
    U = checked(U, 1, LAW)
    if not U.any(axis=1).all():
        raise InvalidInput(f"{LAW} needs vectors other than zero: they have no relative error")
    layers = random_layers([U.shape[1], *[n_units] * n_layers], seed)
    recovered = back_project(forward(U, layers), layers, projection)
    relative = np.linalg.norm(recovered - U, axis=1) / np.linalg.norm(U, axis=1)
    return Estimate.of_mean(relative)


def expected_error(dimension: int, n_units: int) -> float:
    """Return √((2 k + 3) / m): the expected error of one layer on a subspace of dimension k."""
    return math.sqrt((2 * dimension + 3) / n_units)
