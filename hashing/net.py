"""Trained nets of one and two layers of tanh, learned from similar and dissimilar pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from hashing.base import Hasher, Matrix, finite
from hashing.checks import InvalidInput, check_int, check_number
from hashing.linear import LinearHasher, TwoLayerHasher, affine
from hashing.moments import fold, moments
from hashing.pairs import labelled

if TYPE_CHECKING:
    from hashing.siamese import Layer

MAX_HIDDEN = 8192
MAX_STEPS = 10**6


class _Net(Hasher):
    """What the nets share: their parameters, and how they are trained."""

    needs_labels: ClassVar[bool] = True
    needs_torch: ClassVar[bool] = True

    margin: float
    alpha: float
    noise: float
    steps: int
    learning_rate: float
    weight_decay: float

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_int("steps", self.steps, 1, MAX_STEPS)
        for name in ("margin", "alpha", "noise", "learning_rate", "weight_decay"):
            value = getattr(self, name)
            check_number(name, value)
            if value < 0 or (value == 0 and name in ("margin", "alpha", "learning_rate")):
                raise InvalidInput(f"{name} must be positive, got {value}")

    def _train(
        self, X: NDArray[Any], y: NDArray[np.int64] | None, widths: Sequence[int]
    ) -> list[Layer]:
        """Trained layers, the standardisation of the input folded into the first."""
        labels = cast("NDArray[np.int64]", y)  # `needs_labels`: fit has refused None
        rows = labelled(labels)
        shift, divisor = moments(X, center=True, scale=True)
        standardised = ((X[rows] - shift) / divisor).astype(np.float32)
        layers: list[Layer] = _torch_train(self.method)(
            standardised,
            labels[rows],
            widths,
            margin=self.margin,
            alpha=self.alpha,
            noise=self.noise,
            steps=self.steps,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            random_state=self.random_state,
        )
        if not all(np.isfinite(array).all() for layer in layers for array in layer):
            raise InvalidInput(
                f"training diverged: lower learning_rate ({self.learning_rate}) or weight_decay "
                f"({self.weight_decay})"
            )
        weights, bias = layers[0]
        folded, offset = fold(weights.T.astype(np.float64), shift, divisor)
        layers[0] = folded, bias + offset
        return layers


def _torch_train(method: str) -> Any:
    """`hashing.siamese.train`; InvalidInput where torch cannot be imported."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise InvalidInput(
            f"{method} is trained with torch, which cannot be imported ({error}); "
            "`make train-deps` installs it, or `pip install 'bitcell[train]' --extra-index-url "
            "https://download.pytorch.org/whl/cpu`"
        ) from error
    from hashing.siamese import train

    return train


class Net1(_Net, LinearHasher):
    """One trained layer: bits are sign(tanh(A s + b)), s the standardised descriptor.

    With ξ(x) = tanh(A s + b), m = `n_bits` and r = ‖ξ(x) - ξ(x')‖ / √m, which is 0 to 2,
    training lowers

        mean of r² over similar pairs + alpha · mean of max(0, margin - r)² over dissimilar pairs

    by stochastic gradient steps. Similar is of one label, dissimilar of two. Rows without a label
    count in the standardisation alone. `project` gives A s + b, the last layer before its tanh,
    which has the same sign.

    Parameters
    ----------
    n_bits : int
        Code length.
    margin : float
        Dissimilar pairs are pushed apart up to here. Codes that differ in a share p of their
        bits have r = 2 √p: √2 is half of the bits.
    alpha : float
        Weight of dissimilar pairs.
    noise : float
        Standard deviation of the Gaussian noise added to s in training: against learning the
        labelled descriptors by heart. 0 for none.
    steps : int
        Gradient steps, each on 64 similar and 64 dissimilar pairs.
    learning_rate : float
        Of AdamW; it falls to zero along a cosine.
    weight_decay : float
        Decoupled decay of A, as a multiple of the learning rate.
    random_state : int
        Seed of the first weights, the pairs and the noise.

    References
    ----------
    J. Masci, M. Bronstein, A. Bronstein, J. Schmidhuber, "Multimodal Similarity-Preserving
    Hashing", IEEE Trans. PAMI 36(4), 2014 (arXiv:1207.1522): a siamese net of tanh layers under
    this hinge loss, here with one modality. Deviations: distances are divided by √m, so that the
    same margin does for every code length; each kind of pair is averaged by itself; input is
    standardised; noise, weight decay and AdamW in place of plain gradient descent.
    """

    method: ClassVar[str] = "net-1"

    def __init__(
        self,
        n_bits: int = 64,
        *,
        margin: float = 1.4,
        alpha: float = 2.0,
        noise: float = 1.0,
        steps: int = 4000,
        learning_rate: float = 0.002,
        weight_decay: float = 1.0,
        random_state: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.margin = margin
        self.alpha = alpha
        self.noise = noise
        self.steps = steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def _fit(self, X: NDArray[Any], y: NDArray[np.int64] | None) -> None:
        ((weights, bias),) = self._train(X, y, [self.n_bits])
        self._set_linear(weights, bias, X.mean(axis=0, dtype=np.float64))


class Net2(_Net, TwoLayerHasher):
    """Two trained layers: bits are sign(tanh(A₂ tanh(A₁ s + b₁) + b₂)).

    Trained as `Net1` is, with ξ(x) the output of the second layer. `project` gives what its tanh
    is taken of.

    Parameters
    ----------
    n_bits : int
        Code length.
    hidden : int
        Width of the hidden layer.
    margin, alpha, noise, steps, learning_rate, weight_decay, random_state
        As `Net1`; fewer steps, since two layers learn the labelled descriptors by heart sooner.

    References
    ----------
    As `Net1`, with its deviations.
    """

    method: ClassVar[str] = "net-2"

    def __init__(
        self,
        n_bits: int = 64,
        *,
        hidden: int = 512,
        margin: float = 1.4,
        alpha: float = 2.0,
        noise: float = 1.0,
        steps: int = 1500,
        learning_rate: float = 0.002,
        weight_decay: float = 1.0,
        random_state: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.hidden = hidden
        self.margin = margin
        self.alpha = alpha
        self.noise = noise
        self.steps = steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_int("hidden", self.hidden, 1, MAX_HIDDEN)

    def _fit(self, X: NDArray[Any], y: NDArray[np.int64] | None) -> None:
        (
            (self.hidden_weights_, self.hidden_bias_),
            (self.weights_, self.bias_),
        ) = self._train(X, y, [self.hidden, self.n_bits])

    def _project(self, X: Matrix) -> Matrix:
        # tanh would hide an infinity.
        hidden = finite(affine(X, self.hidden_weights_, self.hidden_bias_))
        return affine(np.tanh(hidden, out=hidden), self.weights_, self.bias_)
