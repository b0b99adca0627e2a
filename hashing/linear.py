"""Methods whose projection is one matrix product."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hashing.base import Hasher, Matrix


class LinearHasher(Hasher):
    """z = x·weights + bias.

    Attributes
    ----------
    weights_ : (d, n_bits) float32
    bias_ : (n_bits,) float32
    offset_ : (1,) float32
        How far from the origin the fitted descriptors lie: the norm of what was subtracted from
        them. Where they lie far out, large terms cancel in z.
    """

    learned: ClassVar[tuple[str, ...]] = ("weights_", "bias_", "offset_")

    weights_: NDArray[np.float32]
    bias_: NDArray[np.float32]
    offset_: NDArray[np.float32]

    def _set_linear(
        self,
        weights: NDArray[np.floating],
        bias: NDArray[np.floating],
        centre: NDArray[np.floating],
    ) -> None:
        self.weights_ = weights.astype(np.float32)
        self.bias_ = bias.astype(np.float32)
        self.offset_ = np.array([np.linalg.norm(centre)], np.float32)

    def _cancelled(self) -> float:
        return float(self.offset_[0] * np.linalg.norm(self.weights_, axis=0).max())

    def _project(self, X: Matrix) -> Matrix:
        z: Matrix = X @ self.weights_
        z += self.bias_
        return z
