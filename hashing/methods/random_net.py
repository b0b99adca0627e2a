"""Random nets of one and two layers: sign(ρ(A x)) with Gaussian A."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Float64Array, Matrix, row_blocks
from hashing.base import Hasher
from hashing.labels import Labels
from hashing.parts.activations import activation
from hashing.parts.linear import MAX_HIDDEN, LinearHasher, TwoLayerHasher
from hashing.parts.moments import fold, moments, typical_length
from hashing.validation import check_bool, check_int


class _RandomNet(Hasher):
    """The activation, centering and scaling that both nets share.

    With v the centred input of the last ρ, a bit is set where ρ(v) > ρ(0): above 0 for truncated
    linear, relu and tanh, above 1/2 for sigmoid. Nothing is negative after relu or sigmoid, so a
    plain sign would set every bit; this threshold leaves about half of the fitted descriptors on
    either side. It is the same as v > 0, and `project` returns v: after a relu, all the bits that
    are not set would project to the same 0, and a query could not tell which of them are certain.
    """

    data_free: ClassVar[bool] = True

    activation: str
    a: float
    b: float
    center: bool
    scale: bool

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_bool("center", self.center)
        check_bool("scale", self.scale)
        activation(self.activation, self.a, self.b)

    def _gaussian(self, rng: np.random.Generator, m: int, n: int) -> Float64Array:
        """Return A, (m, n), of a layer from n to m units, with a_ij ~ N(0, 1/m)."""
        return rng.normal(0.0, 1 / math.sqrt(m), (m, n))


class RandomNet1(_RandomNet, LinearHasher):
    """One random layer: bits are sign(ρ(A (x - μ))) with a_ij ~ N(0, 1/m), m = `n_bits`.

    ρ is monotone, so it does not change the bits: with the same A they are those of `lsh`.
    `project` returns A (x - μ). The method exists because the theory of such layers is about
    ρ(A x).

    Parameters
    ----------
    n_bits : int
        Code length, m.
    activation : {"truncated-linear", "relu", "tanh", "sigmoid"}
        ρ. The bit is set where ρ(v) > ρ(0), v = A (x - μ): above 0, for sigmoid above 1/2.
    a, b : float
        Interval of the truncated linear ρ, a <= 0 < b.
    center : bool
        Subtract the mean μ of the fitted descriptors.
    scale : bool
        Divide each dimension by its standard deviation.
    random_state : int
        Seed of A.

    References
    ----------
    R. Giryes, G. Sapiro, A. Bronstein, "Deep Neural Networks with Random Gaussian Weights: A
    Universal Classification Strategy?", IEEE Trans. Signal Processing 64(13), 2016, section II:
    layers ρ(A x) with Gaussian A and a semi-truncated linear ρ keep the metric of their input.
    Deviation: the input is centred by default.
    """

    method: ClassVar[str] = "random-net-1"

    def __init__(
        self,
        n_bits: int = 64,
        *,
        activation: str = "truncated-linear",
        a: float = -1.0,
        b: float = 1.0,
        center: bool = True,
        scale: bool = False,
        random_state: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.activation = activation
        self.a = a
        self.b = b
        self.center = center
        self.scale = scale
        self.random_state = random_state

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        A = self._gaussian(np.random.default_rng(self.random_state), self.n_bits, X.shape[1])
        shift, divisor = moments(X, center=self.center, scale=self.scale)
        self._set_linear(*fold(A, shift, divisor), shift)


class RandomNet2(_RandomNet, TwoLayerHasher):
    """Two random layers: bits are sign(ρ(A₂ ρ(A₁ (x - μ) / ℓ) - t)), Gaussian A₁ and A₂.

    The entries of A₁ are N(0, 1), those of A₂ are N(0, 1/m) with m = `n_bits`. ℓ is the root mean
    square of ‖x - μ‖ over the fitted descriptors, so the inputs of the first ρ have a mean square
    of 1 whatever the units of the descriptors, and ρ is not linear there: with the default, about
    a third of the hidden units are cut. Multiplying all descriptors by a constant changes no bit.

    If the fitted descriptors are all the same, ℓ is their length, or 1 if that is zero. An encoder
    that is made from a dimension alone (one descriptor of zeros) thus expects descriptors of about
    unit length. Much shorter ones meet only the linear part of truncated linear, tanh and sigmoid;
    with much longer ones the hidden units become signs. relu has no such scale.

    Parameters
    ----------
    n_bits : int
        Code length.
    hidden : int
        Width of the hidden layer. A wider one keeps the metric better.
    activation : {"truncated-linear", "relu", "tanh", "sigmoid"}
        ρ of both layers. The last one changes no bit: it is set where ρ(v) > ρ(0), v the centred
        input, and so where v > 0.
    a, b : float
        Interval of the truncated linear ρ, a <= 0 < b, in units of the root mean square of its
        inputs.
    center : bool
        Subtract the means of the fitted descriptors: μ before the first layer, and t, the mean of
        A₂ h for hidden units h, before the last ρ, because hidden units are never negative after
        relu or sigmoid.
    scale : bool
        Divide each dimension by its standard deviation, before everything else.
    random_state : int
        Seed of A₁ and A₂.

    References
    ----------
    As `RandomNet1`. There, descriptors lie in the unit ball, the entries of A₁ are N(0, 1/m), and
    ρ is linear on an interval and constant outside of it, as relu and truncated linear are; their
    theorem on angles is about relu. Deviations: centering before both layers; division by ℓ, and
    inputs of ρ that are √m times as large, for an interval that does not depend on m and on the
    units of the descriptors.
    """

    method: ClassVar[str] = "random-net-2"

    def __init__(
        self,
        n_bits: int = 64,
        *,
        hidden: int = 1024,
        activation: str = "truncated-linear",
        a: float = -1.0,
        b: float = 1.0,
        center: bool = True,
        scale: bool = False,
        random_state: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.hidden = hidden
        self.activation = activation
        self.a = a
        self.b = b
        self.center = center
        self.scale = scale
        self.random_state = random_state

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_int("hidden", self.hidden, 1, MAX_HIDDEN)

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        rng = np.random.default_rng(self.random_state)
        A1 = self._gaussian(rng, self.hidden, X.shape[1])
        A2 = self._gaussian(rng, self.n_bits, self.hidden)
        shift, divisor = moments(X, center=self.center, scale=self.scale)
        divisor *= typical_length(X, shift, divisor) / math.sqrt(self.hidden)
        self.hidden_weights_, self.hidden_bias_ = fold(A1, shift, divisor)
        mean = self._mean_hidden_units(X) if self.center else np.zeros(self.hidden)
        self.weights_, self.bias_ = fold(A2, mean, np.ones(self.hidden))

    def _activation(self, v: Matrix) -> Matrix:
        return activation(self.activation, self.a, self.b)(v)

    def _mean_hidden_units(self, X: NDArray[Any]) -> Float64Array:
        total = np.zeros(self.hidden)
        for rows in row_blocks(X):
            total += self._hidden_units(X[rows].astype(np.float64)).sum(axis=0)
        return total / len(X)
