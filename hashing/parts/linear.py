"""Methods whose projection is one matrix product, or two with a nonlinearity between them."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Matrix, finite
from hashing.base import Hasher
from hashing.shapes import Shape
from hashing.validation import InvalidInput

MAX_HIDDEN = 8192

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weights (d, m) and bias (m,) of an affine layer."""


class LinearHasher(Hasher):
    """A method with z = x·weights + bias.

    Attributes
    ----------
    weights_ : (d, n_bits) float32
    bias_ : (n_bits,) float32
    offset_ : (1,) float32
        Distance of the fitted descriptors from the origin: the norm of the vector that was
        subtracted from them. If it is large, large terms cancel in z.
    """

    weights_: NDArray[np.float32]
    bias_: NDArray[np.float32]
    offset_: NDArray[np.float32]

    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the arrays that `fit` sets, by attribute name."""
        return {"weights_": (n_features, self.n_bits), "bias_": (self.n_bits,), "offset_": (1,)}

    def _set_linear(
        self,
        weights: NDArray[np.floating],
        bias: NDArray[np.floating],
        centre: NDArray[np.floating],
    ) -> None:
        self.weights_ = weights.astype(np.float32)
        self.bias_ = bias.astype(np.float32)
        self.offset_ = np.array([np.linalg.norm(centre)], np.float32)

    def _check_learned(self, n_features: int) -> None:
        super()._check_learned(n_features)
        if self.offset_.item() < 0:
            raise InvalidInput(f"offset_ must be 0 or more, got {self.offset_.item()}")

    def _cancellation_scale(self) -> float:
        return float(self.offset_[0] * np.linalg.norm(self.weights_, axis=0).max())

    def _project(self, X: Matrix) -> Matrix:
        return affine(X, self.weights_, self.bias_)


class TwoLayerHasher(Hasher):
    """A method with z = ρ(x·hidden_weights + hidden_bias)·weights + bias.

    The activation ρ must be steep nowhere.

    Attributes
    ----------
    hidden_weights_ : (d, hidden) float32
    hidden_bias_ : (hidden,) float32
    weights_ : (hidden, n_bits) float32
    bias_ : (n_bits,) float32
    """

    hidden: int
    hidden_weights_: NDArray[np.float32]
    hidden_bias_: NDArray[np.float32]
    weights_: NDArray[np.float32]
    bias_: NDArray[np.float32]

    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the arrays that `fit` sets, by attribute name."""
        return {
            "hidden_weights_": (n_features, self.hidden),
            "hidden_bias_": (self.hidden,),
            "weights_": (self.hidden, self.n_bits),
            "bias_": (self.n_bits,),
        }

    @abstractmethod
    def _activation(self, v: Matrix) -> Matrix:
        """Return ρ of the hidden layer; may overwrite v."""

    def _hidden_units(self, X: Matrix) -> Matrix:
        # ρ may be bounded, or zero below zero, and would then hide an infinity.
        return self._activation(finite(affine(X, self.hidden_weights_, self.hidden_bias_)))

    def _row_size(self) -> int:
        return self.hidden

    def _project(self, X: Matrix) -> Matrix:
        return affine(self._hidden_units(X), self.weights_, self.bias_)

    def _cancellation_scale(self) -> float:
        # What cancels in the hidden layer is multiplied by the weights of the second.
        hidden = np.abs(self.hidden_bias_).max() * np.linalg.norm(self.weights_, axis=0).max()
        return float(np.abs(self.bias_).max() + hidden)


def affine(X: Matrix, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> Matrix:
    """Return x·weights + bias, (n, d) to (n, m), in the dtype of X: float32 or float64."""
    v: Matrix = X @ weights
    v += bias
    return v
