"""Trained nets of one and two layers, learned from few labels and all descriptors."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Matrix
from hashing.nets.trained_net import TrainedNet
from hashing.parts.activations import ACTIVATIONS
from hashing.parts.linear import Layer, LinearHasher, TwoLayerHasher
from hashing.shapes import Shape


class Net2(TrainedNet, TwoLayerHasher):
    """Two trained layers: bits are sign(A₂ relu(A₁ s + b₁) + b₂).

    s is the descriptor, raised to a signed power and standardised. Training has two parts. First a
    teacher learns the class of each descriptor, from the labels and from where the descriptors
    without labels lie, and from privileged features, which the rows of `fit` may have although
    queries have none (`hashing.nets.teacher.Teacher`). Then the net takes over the teacher's hidden
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
    privileged_mirror : list of int, optional
        ``privileged[:, privileged_mirror]`` are the privileged features of the mirror images.
        None if they are not known; then a row keeps its features when its descriptor is mirrored.
    noise : float, optional
        Standard deviation of the Gaussian noise added to s in training, against overfitting few
        descriptors. The default for n descriptors is √(1000 / n), at least 0.1, and 0.3 for the
        teacher; at most half of their spread along a typical principal direction
        (`hashing.nets.views.default_noise`).
    teacher_steps : int
        Gradient steps of the teacher, each on 512 descriptors.
    steps : int
        Gradient steps of the net, each on 512 descriptors.
    random_state : int
        Seed of the initial weights, the order of the descriptors and the noise.

    References
    ----------
    The sources of the teacher and of the loss are in their modules. The net has the form of
    `hashing.nets.siamese.Siamese2`, with relu instead of tanh in the hidden layer, which is faster
    to encode with and ranks as well; how it learns is another algorithm.
    """

    method: ClassVar[str] = "net-2"
    two_layers: ClassVar[bool] = True

    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the arrays that `fit` sets, by attribute name."""
        return TwoLayerHasher.learned_shapes(self, n_features) | {"power_": (1,)}

    def _set_layers(self, layers: list[Layer], shift: NDArray[np.float64]) -> None:
        (self.hidden_weights_, self.hidden_bias_), (self.weights_, self.bias_) = layers

    def _activation(self, v: Matrix) -> Matrix:
        return ACTIVATIONS["relu"](v)

    def _project(self, X: Matrix) -> Matrix:
        return super()._project(self._raise_to_power(X))


class Net1(TrainedNet, LinearHasher):
    """One trained layer: bits are sign(A s + b), trained as `Net2` is.

    Parameters
    ----------
    n_bits : int
        Code length.
    hidden : int
        Width of the teacher's hidden layer. The net itself has none.
    power, mirror, privileged_mirror, noise, teacher_steps, steps, random_state
        As in `Net2`.

    References
    ----------
    As `Net2`.
    """

    method: ClassVar[str] = "net-1"
    two_layers: ClassVar[bool] = False

    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the arrays that `fit` sets, by attribute name."""
        return LinearHasher.learned_shapes(self, n_features) | {"power_": (1,)}

    def _set_layers(self, layers: list[Layer], shift: NDArray[np.float64]) -> None:
        ((weights, bias),) = layers
        self._set_linear(weights, bias, shift)

    def _project(self, X: Matrix) -> Matrix:
        return super()._project(self._raise_to_power(X))
