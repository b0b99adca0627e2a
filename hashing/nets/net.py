"""Trained nets of one and two layers, learned from few labels and all descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Matrix
from hashing.base import Hasher
from hashing.parts.activations import ACTIVATIONS
from hashing.parts.linear import MAX_HIDDEN, Layer, LinearHasher, TwoLayerHasher
from hashing.parts.moments import fold, moments
from hashing.parts.pairs import labelled
from hashing.shapes import Shape
from hashing.validation import InvalidInput, check_int, check_number

MAX_STEPS = 10**6
MAX_MIRROR = 1 << 20
NOISE_ROWS = 1000
NOISE_RANGE = (0.3, 0.7)
"""The default noise for n rows is √(NOISE_ROWS / n), clipped to this range."""


class _Net(Hasher):
    """The parameters and the training that both nets share.

    Attributes
    ----------
    power_ : (1,) float32
        The exponent that `fit` used.
    reused_seconds_ : float
        Seconds that `fit` saved because the previous fit, of another code length, had the same
        teacher.
    """

    needs_labels: ClassVar[bool] = True
    needs_torch: ClassVar[bool] = True

    power_: NDArray[np.float32]
    reused_seconds_: float

    def __init__(
        self,
        n_bits: int = 64,
        *,
        hidden: int = 2048,
        power: float | None = None,
        mirror: Sequence[int] | None = None,
        noise: float | None = None,
        teacher_steps: int = 5000,
        steps: int = 1000,
        random_state: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.hidden = hidden
        self.power = power
        self.mirror = mirror
        self.noise = noise
        self.teacher_steps = teacher_steps
        self.steps = steps
        self.random_state = random_state

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_int("hidden", self.hidden, 1, MAX_HIDDEN)
        for name in ("steps", "teacher_steps"):
            check_int(name, getattr(self, name), 1, MAX_STEPS)
        if self.power is not None:
            check_number("power", self.power)
            if not 0 < self.power <= 1:
                raise InvalidInput(f"power must be above 0 and at most 1, got {self.power}")
        if self.noise is not None:
            check_number("noise", self.noise)
            if self.noise < 0:
                raise InvalidInput(f"noise must be 0 or more, got {self.noise}")
        _check_mirror(self.mirror)

    def _check_learned(self, n_features: int) -> None:
        super()._check_learned(n_features)
        self._check_mirror_of(n_features)
        if not 0 <= self.power_.item() <= 1:
            raise InvalidInput(f"power_ must be from 0 to 1, got {self.power_.item()}")
        if self.power is not None and self.power_.item() != np.float32(self.power):
            raise InvalidInput(f"power_ must be the power {self.power}, got {self.power_.item()}")

    def _train(
        self, X: NDArray[Any], y: NDArray[np.int64] | None, *, two_layers: bool
    ) -> tuple[list[Layer], NDArray[np.float64]]:
        """Train the layers.

        Returns
        -------
        layers : list of Layer
            For descriptors raised to the power; the first layer includes the standardisation.
        shift : (d,) float64
            What the standardisation subtracts.
        """
        labels = cast("NDArray[np.int64]", y)  # `needs_labels`: `fit` has refused None.
        labelled(labels)
        self._check_mirror_of(X.shape[1])
        training = _import_training(self.method)
        power = self.power or (0.5 if X.min() >= 0 else 1.0)
        self.power_ = np.array([power], np.float32)
        standardised, shift, divisor = self._standardised(X)
        layers, self.reused_seconds_ = training.train_layers(
            standardised,
            labels,
            self.n_bits,
            two_layers=two_layers,
            hidden=self.hidden,
            teacher_steps=self.teacher_steps,
            steps=self.steps,
            mirror=self.mirror,
            noise=self._noise(len(X)),
            random_state=self.random_state,
        )
        if not all(np.isfinite(array).all() for layer in layers for array in layer):
            raise InvalidInput(
                "training diverged: the weights are not finite; a smaller noise may help"
            )
        weights, bias = layers[0]
        folded, offset = fold(weights.T.astype(np.float64), shift, divisor)
        layers[0] = folded, bias + offset
        return layers, shift

    def _check_mirror_of(self, n_features: int) -> None:
        if self.mirror is not None and len(self.mirror) != n_features:
            raise InvalidInput(
                f"mirror must name each of the {n_features} dimensions once, "
                f"got {len(self.mirror)} of them"
            )

    def _standardised(
        self, X: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """Return X raised to the power and standardised, with the shift and the divisor."""
        raised = self._raise_to_power(X.astype(np.float64))
        shift, divisor = moments(raised, center=True, scale=True)
        raised -= shift
        raised /= divisor
        return raised.astype(np.float32), shift, divisor

    def _noise(self, n_rows: int) -> float:
        if self.noise is not None:
            return self.noise
        return float(np.clip((NOISE_ROWS / n_rows) ** 0.5, *NOISE_RANGE))

    def _raise_to_power(self, X: Matrix) -> Matrix:
        """Return sign(x)·|x|^power in the dtype of X; X itself if the power is 1."""
        power = self.power_.item()
        if power == 1:
            return X
        size = np.abs(X)
        size = np.sqrt(size, out=size) if power == 0.5 else size**power
        return np.copysign(size, X, out=size)


def _check_mirror(mirror: object) -> None:
    if mirror is None:
        return
    if not isinstance(mirror, list | tuple) or len(mirror) > MAX_MIRROR:
        raise InvalidInput(f"mirror must be a list of dimensions, got {mirror!r:.50}")
    for dimension in mirror:
        check_int("each entry of mirror", dimension, 0, len(mirror) - 1)
    if len(set(mirror)) < len(mirror):
        raise InvalidInput("mirror must name each dimension once, but one stands in it twice")


def _import_training(method: str) -> Any:
    """Return the module that trains, which needs torch; raise InvalidInput without torch.

    Only `fit` imports torch, so that encoding works without it and `import hashing` stays fast.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise InvalidInput(
            f"{method} is trained with torch, which cannot be imported ({error}); "
            "`make train-deps` installs it, or, in a checkout, `pip install --no-deps -r "
            "requirements-torch.txt --index-url https://download.pytorch.org/whl/cpu` and then "
            "`pip install '.[train]'`"
        ) from error
    from hashing.nets import training

    return training


class Net2(_Net, TwoLayerHasher):
    """Two trained layers: bits are sign(A₂ relu(A₁ s + b₁) + b₂).

    s is the descriptor, raised to a signed power and standardised. Training has two parts. First a
    teacher learns the class of each descriptor, from the labels and from where the descriptors
    without labels lie (`hashing.nets.teacher.teach`). Then the net takes over the teacher's hidden
    layer and learns codes whose Hamming distance ranks descriptors by the teacher's probability
    that they share their class, by gradient steps on the average precision itself
    (`hashing.nets.ranking_loss.train`). Descriptors without a label (y = -1) take part in full and
    help most where labels are few. `project` returns the values whose sign is the bit.

    Parameters
    ----------
    n_bits : int
        Code length.
    hidden : int
        Width of the hidden layer, and of the teacher's.
    power : float, optional
        Exponent, above 0 and at most 1. 0.5 stresses small values, of which histograms like GIST
        have many; 1 leaves descriptors as they are. The default is 0.5 if no descriptor has a
        negative value, else 1.
    mirror : list of int, optional
        ``X[:, mirror]`` are the descriptors of the mirror images, which are then further examples:
        ``hashing.gist.Gist().mirror.tolist()`` for GIST. None if descriptors have no mirror image.
    noise : float, optional
        Standard deviation of the Gaussian noise added to s in training, against overfitting few
        descriptors. The default for n descriptors is √(1000 / n), clipped to 0.3 to 0.7.
    teacher_steps : int
        Gradient steps of the teacher, each on 512 descriptors.
    steps : int
        Gradient steps of the net, each on 512 descriptors.
    random_state : int
        Seed of the initial weights, the order of the descriptors and the noise.

    References
    ----------
    J. Masci, M. Bronstein, A. Bronstein, J. Schmidhuber, "Multimodal Similarity-Preserving
    Hashing", IEEE Trans. PAMI 36(4), 2014 (arXiv:1207.1522): hashing by a siamese net of one or
    two layers. Deviations: a loss on the average precision instead of a hinge loss on pairs, a
    self-trained teacher instead of the labels alone, and relu instead of tanh in the hidden layer,
    which is faster to encode with and ranks as well. The sources of each part are in its module.
    """

    method: ClassVar[str] = "net-2"

    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the arrays that `fit` sets, by attribute name."""
        return TwoLayerHasher.learned_shapes(self, n_features) | {"power_": (1,)}

    def _fit(self, X: NDArray[Any], y: NDArray[np.int64] | None) -> None:
        layers, _ = self._train(X, y, two_layers=True)
        (self.hidden_weights_, self.hidden_bias_), (self.weights_, self.bias_) = layers

    def _activation(self, v: Matrix) -> Matrix:
        return ACTIVATIONS["relu"](v)

    def _project(self, X: Matrix) -> Matrix:
        return super()._project(self._raise_to_power(X))


class Net1(_Net, LinearHasher):
    """One trained layer: bits are sign(A s + b), trained as `Net2` is.

    Parameters
    ----------
    n_bits : int
        Code length.
    hidden : int
        Width of the teacher's hidden layer. The net itself has none.
    power, mirror, noise, teacher_steps, steps, random_state
        As in `Net2`.

    References
    ----------
    As `Net2`, with its deviations.
    """

    method: ClassVar[str] = "net-1"

    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the arrays that `fit` sets, by attribute name."""
        return LinearHasher.learned_shapes(self, n_features) | {"power_": (1,)}

    def _fit(self, X: NDArray[Any], y: NDArray[np.int64] | None) -> None:
        ((weights, bias),), shift = self._train(X, y, two_layers=False)
        self._set_linear(weights, bias, shift)

    def _project(self, X: Matrix) -> Matrix:
        return super()._project(self._raise_to_power(X))
