"""Plain binary quantization: the signs of the descriptor's own dimensions."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Matrix, finite
from hashing.base import Hasher
from hashing.labels import Labels
from hashing.shapes import Shape
from hashing.validation import InvalidInput, check_bool


class Sign(Hasher):
    """Bits are x_j > μ_j for the first `n_bits` dimensions j.

    This is the binary quantization that vector databases offer for embeddings, as a baseline for
    the other methods. Descriptors are neither rotated nor learned from, so a bit tells as much as
    its dimension does. `lsh` and `itq` make any number of bits, and mix the dimensions first.

    Parameters
    ----------
    n_bits : int
        Code length, at most the dimension of the descriptors. With fewer bits the later dimensions
        are left out, which suits embeddings whose first dimensions matter most.
    center : bool
        Compare with the means of the fitted descriptors rather than with 0. Embeddings that are
        trained to be quantized, and models with an output named `ubinary`, need False.
    random_state : int
        No effect: nothing is drawn.

    Raises
    ------
    InvalidInput
        By `fit`: there are more bits than dimensions.
    """

    method: ClassVar[str] = "sign"
    data_free: ClassVar[bool] = True

    thresholds_: NDArray[np.float32]

    def __init__(self, n_bits: int = 64, *, center: bool = True, random_state: int = 0) -> None:
        self.n_bits = n_bits
        self.center = center
        self.random_state = random_state

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_bool("center", self.center)

    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the arrays that `fit` sets, by attribute name."""
        return {"thresholds_": (self.n_bits,)}

    def _check_learned(self, n_features: int) -> None:
        super()._check_learned(n_features)
        self._check_dimension(n_features)

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        self._check_dimension(X.shape[1])
        self.thresholds_ = (
            X[:, : self.n_bits].mean(axis=0, dtype=np.float64).astype(np.float32)
            if self.center
            else np.zeros(self.n_bits, np.float32)
        )

    def _project(self, X: Matrix) -> Matrix:
        z: Matrix = finite(X)[:, : self.n_bits] - self.thresholds_
        return z

    def _check_dimension(self, n_features: int) -> None:
        if n_features < self.n_bits:
            raise InvalidInput(
                f"sign makes one bit of each dimension: at most {n_features}, got n_bits "
                f"{self.n_bits}"
            )
