"""Spectral hashing: signs of the smoothest eigenfunctions of a uniform distribution."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Float64Array, Matrix, finite, row_blocks
from hashing.base import Hasher
from hashing.labels import Labels
from hashing.parts.blas import one_blas_thread
from hashing.parts.principal import principal_directions
from hashing.shapes import Shape
from hashing.validation import InvalidInput


class SH(Hasher):
    """Bits are signs of cos(π k (v - a) / (b - a)) of principal components v in [a, b].

    If descriptors were uniform in a box along their principal directions, these would be the
    eigenfunctions of their similarity graph, the smoothest ones with the smallest k / (b - a). The
    `n_bits` smoothest are taken: a wide component gives several bits, with k = 1, 2, …, that cut
    it ever finer, and a narrow one gives none.

    Parameters
    ----------
    n_bits : int
        Code length. Not limited by the dimension. As many principal components are looked at as
        there are bits.
    random_state : int
        No effect: nothing is drawn.

    Attributes
    ----------
    weights_ : (d, n_bits) float32
    bias_ : (n_bits,) float32
        x·weights + bias is the argument of the cosine: from 0 at a to π k at b.
    modes_ : (n_bits,) float32
        k of each bit.

    Raises
    ------
    InvalidInput
        By `fit`: all descriptors are the same.

    References
    ----------
    Y. Weiss, A. Torralba, R. Fergus, "Spectral Hashing", NIPS 2008, section 3. As in the authors'
    code (`trainSH.m`), a and b are the smallest and the largest component of the fitted
    descriptors. Deviation: a component outside of [a, b] counts as the nearer end; in the authors'
    code the cosine goes on beyond it.
    """

    method: ClassVar[str] = "sh"

    weights_: NDArray[np.float32]
    bias_: NDArray[np.float32]
    modes_: NDArray[np.float32]

    def __init__(self, n_bits: int = 64, *, random_state: int = 0) -> None:
        self.n_bits = n_bits
        self.random_state = random_state

    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the arrays that `fit` sets, by attribute name."""
        n_bits = self.n_bits
        return {"weights_": (n_features, n_bits), "bias_": (n_bits,), "modes_": (n_bits,)}

    def _check_learned(self, n_features: int) -> None:
        modes = self.modes_
        if not ((modes >= 1) & (modes <= self.n_bits) & (modes == modes.round())).all():
            raise InvalidInput(
                f"modes_ must be whole numbers from 1 to {self.n_bits}; they range from "
                f"{modes.min():g} to {modes.max():g}"
            )

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        with one_blas_thread():
            mean, W = principal_directions(X, self.n_bits)
            low, high = _ranges(X, mean, W)
        directions, modes = smoothest(high - low, self.n_bits)
        frequencies = np.pi * modes / (high - low)[directions]
        weights = (W[:, directions] * frequencies).astype(np.float32)
        # numpy computes this sum, not BLAS, so it is the same on any number of threads.
        shift = (weights.astype(np.float64) * mean[:, None]).sum(axis=0)
        self.weights_ = weights
        self.bias_ = (-shift - frequencies * low[directions]).astype(np.float32)
        self.modes_ = modes.astype(np.float32)

    def _project(self, X: Matrix) -> Matrix:
        # Always in float64: the argument of the cosine may be large, and its rounding in float32
        # larger than what `Hasher` allows for a projection from -1 to 1.
        argument = X.astype(np.float64, copy=False) @ self.weights_.astype(np.float64)
        argument += self.bias_
        z: Float64Array = np.cos(np.clip(finite(argument), 0, np.pi * self.modes_.astype(float)))
        return z.astype(np.float32) if X.dtype == np.float32 else z


def _ranges(
    X: NDArray[Any], mean: Float64Array, W: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return the smallest and the largest component of the rows in each direction."""
    low, high = np.full(W.shape[1], np.inf), np.full(W.shape[1], -np.inf)
    for rows in row_blocks(X):
        V = (X[rows] - mean) @ W
        low, high = np.minimum(low, V.min(axis=0)), np.maximum(high, V.max(axis=0))
    return low, high


def smoothest(widths: Float64Array, n: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return direction and k of the n smallest k / width, smallest first.

    Parameters
    ----------
    widths : (r,) float64
        b - a of each direction.
    n : int
    """
    # The widest direction alone has n candidates, so no other needs a larger k / width.
    counts = np.ceil((n + 1) * widths / widths.max()).astype(np.int64) - 1
    directions = np.repeat(np.arange(len(widths)), counts)
    modes = np.arange(len(directions)) - np.repeat(counts.cumsum() - counts, counts) + 1
    chosen = np.argsort(modes / widths[directions], kind="stable")[:n]
    return directions[chosen], modes[chosen]
