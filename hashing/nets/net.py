"""Trained nets of one and two layers, learned from few labels and all descriptors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from hashing.base import Hasher, Matrix
from hashing.parts.activations import ACTIVATIONS
from hashing.parts.linear import MAX_HIDDEN, LinearHasher, TwoLayerHasher
from hashing.parts.moments import fold, moments
from hashing.parts.pairs import labelled
from hashing.progress import stage
from hashing.validation import InvalidInput, check_int, check_number

if TYPE_CHECKING:
    from hashing.nets.torch_helpers import Layer

MAX_STEPS = 10**6
MAX_MIRROR = 1 << 20
MUCH = 1000
NOISE = (0.3, 0.7)
"""Noise on n rows is √(MUCH / n), but no less and no more than this, unless it is given."""


class _Net(Hasher):
    """What the nets share: their parameters, and how they are trained.

    Attributes
    ----------
    power_ : (1,) float32
        The power used.
    reused_seconds_ : float
        Seconds that `fit` saved because the fit before it, of another length, had the same teacher.
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

    def _train(
        self, X: NDArray[Any], y: NDArray[np.int64] | None, *, two_layers: bool
    ) -> tuple[list[Layer], NDArray[np.float64]]:
        """Trained layers, the standardisation folded into the first, and what it subtracts."""
        labels = cast("NDArray[np.int64]", y)  # `needs_labels`: fit has refused None
        labelled(labels)
        if self.mirror is not None and len(self.mirror) != X.shape[1]:
            raise InvalidInput(
                f"mirror must name each of the {X.shape[1]} dimensions once, "
                f"got {len(self.mirror)} of them"
            )
        self_training, ranking_loss = _torch_modules(self.method)
        power = self.power or (0.5 if X.min() >= 0 else 1.0)
        self.power_ = np.array([power], np.float32)
        raised = self._raised(X.astype(np.float64))
        shift, divisor = moments(raised, center=True, scale=True)
        raised -= shift
        raised /= divisor
        standardised = raised.astype(np.float32)
        del raised
        shared = {
            "mirror": self.mirror,
            "noise": float(np.clip((MUCH / len(X)) ** 0.5, *NOISE))
            if self.noise is None
            else self.noise,
            "random_state": self.random_state,
        }
        start = time.perf_counter()
        of = self.teacher_steps + self.steps
        with stage(0, of, "the teacher learns the classes"):
            teacher = self_training.teach(
                standardised, labels, hidden=self.hidden, steps=self.teacher_steps, **shared
            )
        self.reused_seconds_ = max(0.0, teacher.seconds - (time.perf_counter() - start))
        with stage(self.teacher_steps, of, "the net learns the codes"):
            layers: list[Layer] = ranking_loss.train(
                standardised,
                teacher.probabilities,
                self.n_bits,
                teacher.hidden if two_layers else None,
                steps=self.steps,
                **shared,
            )
        if not all(np.isfinite(array).all() for layer in layers for array in layer):
            raise InvalidInput("training diverged; is there noise of a sensible size?")
        weights, bias = layers[0]
        folded, offset = fold(weights.T.astype(np.float64), shift, divisor)
        layers[0] = folded, bias + offset
        return layers, shift

    def _raised(self, X: Matrix) -> Matrix:
        """sign(x)·|x|^power, in the dtype of X."""
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
        raise InvalidInput("mirror must name each dimension once, got one twice")


def _torch_modules(method: str) -> tuple[Any, Any]:
    """The modules that train; InvalidInput where torch cannot be imported."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise InvalidInput(
            f"{method} is trained with torch, which cannot be imported ({error}); "
            "`make train-deps` installs it, or, in a checkout, `pip install '.[train]' "
            "--extra-index-url https://download.pytorch.org/whl/cpu`"
        ) from error
    from hashing.nets import ranking_loss, teacher

    return teacher, ranking_loss


class Net2(_Net, TwoLayerHasher):
    """Two trained layers: bits are sign(A₂ relu(A₁ s + b₁) + b₂).

    s is the descriptor, raised to a signed power and standardised. Training has two parts.
    A teacher learns the class of each descriptor from the labels and from where the descriptors
    without labels lie (`hashing.nets.teacher.teach`); the net then takes over its hidden layer
    and learns codes whose Hamming distance ranks descriptors by the teacher's probability that
    they share their class, by gradient steps on the average precision itself
    (`hashing.nets.ranking_loss.train`). Descriptors without a label (y = -1) count in full, and
    help most where labels are few. `project` gives what the sign is taken of.

    Parameters
    ----------
    n_bits : int
        Code length.
    hidden : int
        Width of the hidden layer, the teacher's too.
    power : float, optional
        Exponent, above 0 and at most 1. Half makes much of the small values, of which histograms
        like GIST have many; 1 leaves descriptors as they are. By default half where no descriptor
        has a negative value, else 1.
    mirror : list of int, optional
        ``X[:, mirror]`` are the descriptors of the mirror images, which then count as further
        examples: ``hashing.gist.Gist().mirror.tolist()`` for GIST. None where there is no such
        thing.
    noise : float, optional
        Standard deviation of the Gaussian noise added to s in training: against learning few
        descriptors by heart. By default √(1000 / n) for n descriptors, within 0.3 and 0.7.
    teacher_steps : int
        Gradient steps of the teacher, each on 512 descriptors.
    steps : int
        Gradient steps of the net, likewise.
    random_state : int
        Seed of the first weights, the order of the descriptors and the noise.

    References
    ----------
    J. Masci, M. Bronstein, A. Bronstein, J. Schmidhuber, "Multimodal Similarity-Preserving
    Hashing", IEEE Trans. PAMI 36(4), 2014 (arXiv:1207.1522): hashing by a siamese net of one or
    two layers. Deviations: an average precision loss in place of a hinge on pairs, a self-trained
    teacher in place of the labels alone, relu in place of tanh in the hidden layer, which serves
    faster and ranks as well. Sources of each part stand with it.
    """

    method: ClassVar[str] = "net-2"
    learned: ClassVar[tuple[str, ...]] = (*TwoLayerHasher.learned, "power_")

    def _fit(self, X: NDArray[Any], y: NDArray[np.int64] | None) -> None:
        layers, _ = self._train(X, y, two_layers=True)
        (self.hidden_weights_, self.hidden_bias_), (self.weights_, self.bias_) = layers

    def _rho(self, v: Matrix) -> Matrix:
        return ACTIVATIONS["relu"](v)

    def _project(self, X: Matrix) -> Matrix:
        return super()._project(self._raised(X))


class Net1(_Net, LinearHasher):
    """One trained layer: bits are sign(A s + b), trained as `Net2` is.

    Parameters
    ----------
    n_bits : int
        Code length.
    hidden : int
        Width of the teacher's hidden layer; the net itself has none.
    power, mirror, noise, teacher_steps, steps, random_state
        As `Net2`.

    References
    ----------
    As `Net2`, with its deviations.
    """

    method: ClassVar[str] = "net-1"
    learned: ClassVar[tuple[str, ...]] = (*LinearHasher.learned, "power_")

    def _fit(self, X: NDArray[Any], y: NDArray[np.int64] | None) -> None:
        ((weights, bias),), shift = self._train(X, y, two_layers=False)
        self._set_linear(weights, bias, shift)

    def _project(self, X: Matrix) -> Matrix:
        return super()._project(self._raised(X))
