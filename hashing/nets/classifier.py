"""The classifiers of which the teacher consists."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from hashing.arrays import row_blocks
from hashing.nets.augmentation import augmented, mixup
from hashing.nets.torch_helpers import Adam, forward, tensor
from hashing.nets.views import View
from hashing.parts.linear import Layer

AVERAGE_DECAY = 0.99
"""Share of the averaged weights that a late step keeps; the rest comes from the trained weights."""
BATCH_SIZE = 512
LABELLED_SHARE = 0.125
"""Share of each batch that has labels, if some rows have none."""
LEARNING_RATE = 0.001
WEIGHT_DECAY = 0.05


class Classifier:
    """A net of hidden relu layers and logits that predicts with a moving average of its weights.

    Such an average has the effect of a lower learning rate, or of an ensemble of late weights: A.
    Tarvainen, H. Valpola, "Mean teachers are better role models", NeurIPS 2017 (arXiv:1703.01780).
    Step t keeps min(AVERAGE_DECAY, (1 + t) / (10 + t)) of it, so that after a few steps nothing is
    left of the random weights at the start.

    Parameters
    ----------
    views : sequence of View
        What it sees of a row, side by side.
    hidden : sequence of int
        Units of each hidden layer.
    n_classes : int
    noise : float
        Standard deviation of the noise that is added in training.
    steps : int
        Number of steps in the whole training.
    seed : list of int
    """

    def __init__(
        self,
        views: Sequence[View],
        hidden: Sequence[int],
        n_classes: int,
        noise: float,
        steps: int,
        seed: list[int],
    ) -> None:
        self._views = views
        self._noise = noise
        self._rng = np.random.default_rng(seed)
        widths = [sum(view.values.shape[1] for view in views), *hidden, n_classes]
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
        self._done = 0

    def train(self, targets: torch.Tensor, labelled: NDArray[np.intp], steps: int) -> None:
        """Lower the cross-entropy with soft targets on mirrored, noisy and mixed rows.

        Parameters
        ----------
        targets : (n, c)
            Of all rows.
        labelled : (l,) intp
            The rows that make up `LABELLED_SHARE` of each batch. If there are none, or all are,
            batches are drawn from all rows alike.
        steps : int
        """
        rng, n = self._rng, len(targets)
        size = min(BATCH_SIZE, n)
        some = 0 < len(labelled) < n
        n_labelled = max(1, round(LABELLED_SHARE * size)) if some else 0
        with torch.enable_grad():
            for _ in range(steps):
                rows = rng.integers(0, n, size)
                if n_labelled:
                    rows[:n_labelled] = labelled[rng.integers(0, len(labelled), n_labelled)]
                x = augmented(self._views, rows, self._noise, rng)
                x, t = mixup(x, targets[torch.from_numpy(rows).to(targets.device)], rng)
                loss = -(t * forward(x, self._trained).log_softmax(1)).sum(1).mean()
                self._adam.step(loss)
                self._update_average()

    def _update_average(self) -> None:
        self._done += 1
        kept = min(AVERAGE_DECAY, (1 + self._done) / (10 + self._done))
        with torch.no_grad():
            for averages, trained in zip(self._average, self._trained, strict=True):
                for average, current in zip(averages, trained, strict=True):
                    average.lerp_(current, 1 - kept)

    def log_probabilities(self) -> NDArray[np.float32]:
        """Return log probabilities, (n, c), the mean over a row and its mirror image."""
        with torch.no_grad():
            return np.concatenate(
                [self._log_probabilities(rows) for rows in row_blocks(self._views[0].values)]
            )

    def _log_probabilities(self, rows: slice) -> NDArray[np.float32]:
        seen = [view.images(rows) for view in self._views]
        images = [
            np.concatenate([one[min(i, len(one) - 1)] for one in seen], axis=1)
            for i in range(max(map(len, seen)))
        ]
        logs = [forward(tensor(x), self._average).log_softmax(1).cpu().numpy() for x in images]
        mean: NDArray[np.float32] = np.mean(logs, axis=0)
        return mean

    def hidden_layer(self) -> Layer:
        """Return the first hidden layer, with averaged weights."""
        weights, bias = self._average[0]
        return weights.cpu().numpy(), bias.cpu().numpy()
