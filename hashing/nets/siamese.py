"""Siamese nets of one and two layers, learned from pairs of labelled descriptors alone."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from numpy.typing import NDArray

from hashing.arrays import Float64Array, Matrix
from hashing.base import Hasher
from hashing.labels import Labels, class_sizes
from hashing.nets.torch_check import check_torch
from hashing.nets.views import for_raw_rows, standardised
from hashing.parts.activations import ACTIVATIONS
from hashing.parts.linear import MAX_HIDDEN, Layer, LinearHasher, TwoLayerHasher
from hashing.parts.pairs import labelled
from hashing.validation import InvalidInput, check_int, check_number

MAX_STEPS = 10**6


class _Siamese(Hasher):
    """The parameters and the training that both nets share."""

    needs_labels: ClassVar[bool] = True
    many_labels: ClassVar[bool] = True
    needs_torch: ClassVar[bool] = True

    margin: float
    dissimilar: float
    noise: float
    steps: int

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_int("steps", self.steps, 1, MAX_STEPS)
        for name, high in (("margin", 2.0), ("dissimilar", 1e6), ("noise", 1e6)):
            value = getattr(self, name)
            check_number(name, value)
            # Without a margin, or without dissimilar pairs, all codes become the same.
            if value > high or value < 0 or (value == 0 and name != "noise"):
                low = "at least" if name == "noise" else "above"
                raise InvalidInput(f"{name} must be {low} 0 and at most {high:g}, got {value}")

    def _train(
        self, X: NDArray[Any], y: Labels | None, hidden: int | None
    ) -> tuple[list[Layer], Float64Array]:
        """Train the layers.

        Parameters
        ----------
        hidden : int, optional
            Units of the hidden layer; None for a net of one layer.

        Returns
        -------
        layers : list of Layer
            For descriptors as they are: the first layer includes the standardisation.
        shift : (d,) float64
            What the standardisation subtracts.
        """
        labels = cast(Labels, y)  # `needs_labels`: `fit` has refused None.
        rows = labelled(labels)
        if max(class_sizes(labels).values()) < 2:
            raise InvalidInput(
                "similar pairs need two labelled items of one class; each class has one"
            )
        check_torch(self.method)
        from hashing.nets import siamese_training

        values, shift, divisor = standardised(X[rows])
        layers = siamese_training.train(
            values,
            labels[rows],
            self.n_bits,
            hidden,
            margin=float(self.margin),
            dissimilar=float(self.dissimilar),
            noise=float(self.noise),
            steps=self.steps,
            random_state=self.random_state,
        )
        return for_raw_rows(layers, shift, divisor), shift


class Siamese2(_Siamese, TwoLayerHasher):
    """Two layers: bits are sign(A₂ tanh(A₁ s + b₁) + b₂), trained on pairs.

    s is the standardised descriptor. With ξ = tanh(A₂ tanh(A₁ s + b₁) + b₂), which stands for the
    bits in training, the loss is the mean of ½ ‖ξ - ξ'‖² over similar pairs, which share a label,
    plus `dissimilar` times the mean of ½ max(0, M - ‖ξ - ξ'‖)² over dissimilar pairs. Each gradient
    step takes all pairs of a batch of labelled descriptors (`hashing.nets.siamese_training`).
    Descriptors without a label have no part in it.

    Parameters
    ----------
    n_bits : int
        Code length.
    hidden : int
        Width of the hidden layer.
    margin : float
        M / √`n_bits`, above 0 and at most 2: the largest distance of two ξ is 2 √`n_bits`, and √2
        times √`n_bits` is that of two codes that differ in half of their bits.
    dissimilar : float
        Weight of the dissimilar pairs.
    noise : float
        Standard deviation of the Gaussian noise added to s in training, against overfitting few
        descriptors.
    steps : int
        Gradient steps.
    random_state : int
        Seed of the initial weights, the batches and the noise.

    Raises
    ------
    InvalidInput
        By `fit`: no y, labels of fewer than two classes, no class with two items, no torch.

    References
    ----------
    J. Masci, M. Bronstein, A. Bronstein, J. Schmidhuber, "Multimodal Similarity-Preserving
    Hashing", IEEE Trans. PAMI 36(4), 2014 (arXiv:1207.1522), for a single modality.
    """

    method: ClassVar[str] = "siamese-2"

    def __init__(
        self,
        n_bits: int = 64,
        *,
        hidden: int = 1024,
        margin: float = 1.2,
        dissimilar: float = 4.0,
        noise: float = 0.7,
        steps: int = 500,
        random_state: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.hidden = hidden
        self.margin = margin
        self.dissimilar = dissimilar
        self.noise = noise
        self.steps = steps
        self.random_state = random_state

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_int("hidden", self.hidden, 1, MAX_HIDDEN)

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        layers, _ = self._train(X, y, self.hidden)
        (self.hidden_weights_, self.hidden_bias_), (self.weights_, self.bias_) = layers

    def _activation(self, v: Matrix) -> Matrix:
        return ACTIVATIONS["tanh"](v)


class Siamese1(_Siamese, LinearHasher):
    """One layer: bits are sign(A s + b), trained as `Siamese2` is, with ξ = tanh(A s + b).

    Parameters
    ----------
    n_bits : int
        Code length.
    margin, dissimilar, noise, steps, random_state
        As in `Siamese2`.

    References
    ----------
    As `Siamese2`.
    """

    method: ClassVar[str] = "siamese-1"

    def __init__(
        self,
        n_bits: int = 64,
        *,
        margin: float = 1.2,
        dissimilar: float = 4.0,
        noise: float = 0.7,
        steps: int = 500,
        random_state: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.margin = margin
        self.dissimilar = dissimilar
        self.noise = noise
        self.steps = steps
        self.random_state = random_state

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        ((weights, bias),), shift = self._train(X, y, None)
        self._set_linear(weights, bias, shift)
