"""The classifiers of which the teacher consists."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hashing.arrays import row_blocks
from hashing.nets.augmentation import augment, mixup
from hashing.nets.torch_helpers import Adam, forward, tensor
from hashing.parts.linear import Layer

AVERAGE_DECAY = 0.99
"""Share of the averaged weights that a step keeps; the rest comes from the trained weights."""
BATCH_SIZE = 512
LABELLED_SHARE = 0.125
"""Share of each batch that has labels, if some rows have none."""
LEARNING_RATE = 0.001
WEIGHT_DECAY = 0.05


class Classifier:
    """A net of hidden relu layers and logits that predicts with a moving average of its weights.

    Such an average has the effect of a lower learning rate, or of an ensemble of late weights: A.
    Tarvainen, H. Valpola, "Mean teachers are better role models", NeurIPS 2017 (arXiv:1703.01780).

    Parameters
    ----------
    widths : sequence of int
        Dimension of the descriptors, units of each hidden layer, number of classes.
    steps : int
        Number of steps in the whole training.
    seed : list of int
    """

    def __init__(self, widths: Sequence[int], steps: int, seed: list[int]) -> None:
        self._rng = np.random.default_rng(seed)
        scales = [(2 / d) ** 0.5 for d in widths[:-2]] + [0.5 / widths[-2] ** 0.5]
        weights = [
            tensor(self._rng.normal(0, scale, shape)).requires_grad_()
            for scale, shape in zip(scales, pairwise(widths), strict=True)
        ]
        biases = [tensor(np.zeros(m)).requires_grad_() for m in widths[1:]]
        self._trained = list(zip(weights, biases, strict=True))
        self._average = [
            (weight.detach().clone(), bias.detach().clone()) for weight, bias in self._trained
        ]
        self._adam = Adam(weights, biases, LEARNING_RATE, WEIGHT_DECAY, steps)

    def train(
        self,
        X: NDArray[np.float32],
        targets: torch.Tensor,
        labelled: NDArray[np.intp],
        orders: Sequence[Any],
        noise: float,
        steps: int,
    ) -> None:
        """Lower the cross-entropy with soft targets on mirrored, noisy and mixed rows."""
        rng, size = self._rng, min(BATCH_SIZE, len(X))
        n_labelled = 0 if len(labelled) == len(X) else max(1, round(LABELLED_SHARE * size))
        with torch.enable_grad():
            for _ in range(steps):
                rows = rng.integers(0, len(X), size)
                rows[:n_labelled] = labelled[rng.integers(0, len(labelled), n_labelled)]
                x = augment(X[rows], orders, noise, rng)
                x, t = mixup(x, targets[torch.from_numpy(rows)], rng)
                loss = -(t * forward(x, self._trained).log_softmax(1)).sum(1).mean()
                self._adam.step(loss)
                self._update_average()

    def _update_average(self) -> None:
        with torch.no_grad():
            for averages, trained in zip(self._average, self._trained, strict=True):
                for average, current in zip(averages, trained, strict=True):
                    average.lerp_(current, 1 - AVERAGE_DECAY)

    def log_probabilities(
        self, X: NDArray[np.float32], orders: Sequence[Any]
    ) -> NDArray[np.float32]:
        """Return log probabilities, (n, c), the mean over a row and its mirror image."""
        with torch.no_grad():
            return np.concatenate(
                [
                    np.mean(
                        [
                            forward(torch.from_numpy(X[rows][:, order]), self._average)
                            .log_softmax(1)
                            .numpy()
                            for order in orders
                        ],
                        axis=0,
                    )
                    for rows in row_blocks(X)
                ]
            )

    def hidden_layer(self) -> Layer:
        """Return the first hidden layer, with averaged weights."""
        weights, bias = self._average[0]
        return weights.numpy(), bias.numpy()
