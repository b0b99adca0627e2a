"""Training of the siamese nets: gradient descent on pairs of labelled descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from hashing.labels import Labels
from hashing.nets.torch_helpers import Adam, deterministic, tensor
from hashing.parts.linear import Layer
from hashing.progress import report, stage

BATCH_SIZE = 256
STEPS_BETWEEN_REPORTS = 50
LEARNING_RATE = 0.001
SMALLEST_SQUARE = 1e-6
"""Squared distances are at least this large, because the root has no slope at zero."""


def loss(xi: torch.Tensor, classes: torch.Tensor, margin: float, dissimilar: float) -> torch.Tensor:
    """Return the loss of all pairs of rows.

    It is the mean of ½ ‖ξ - ξ'‖² over similar pairs plus `dissimilar` times the mean of
    ½ max(0, margin - ‖ξ - ξ'‖)² over dissimilar pairs; the mean of no pairs is 0.

    Parameters
    ----------
    xi : (b, m)
    classes : (b,) or (b, c)
        Two rows are similar if they have the same class, or one in common of c.
    margin : float
    dissimilar : float
    """
    squares = (xi * xi).sum(1)
    squared = (squares[:, None] + squares - 2 * xi @ xi.T).clamp_min(SMALLEST_SQUARE)
    if classes.ndim == 1:
        same = classes[:, None] == classes
    else:
        same = classes.float() @ classes.float().T > 0
    apart = (margin - squared.sqrt()).clamp_min(0).square()
    similar = same.clone().fill_diagonal_(False)
    return _mean(squared, similar) / 2 + dissimilar * _mean(apart, ~same) / 2


def _mean(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return (values * chosen).sum() / chosen.sum().clamp_min(1)


def forward(x: torch.Tensor, layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Apply affine layers, each followed by tanh, (b, d) to (b, m)."""
    for weight, bias in layers:
        x = torch.tanh(torch.addmm(bias, x, weight))
    return x


def train(
    X: NDArray[np.float32],
    classes: Labels,
    n_bits: int,
    hidden: int | None,
    *,
    margin: float,
    dissimilar: float,
    noise: float,
    steps: int,
    random_state: int,
) -> list[Layer]:
    """Train a net so that the codes of similar rows are near, and those of others are not.

    Each step draws `BATCH_SIZE` rows, adds noise, and lowers the `loss` of their pairs by Adam,
    whose step falls along a cosine.

    Parameters
    ----------
    X : (n, d)
        Standardised descriptors, all labelled.
    classes : (n,), or (n, c) of 0 and 1
    n_bits : int
    hidden : int, optional
        Units of the hidden layer; None for a net of one layer.
    margin : float
        Margin of the loss, divided by √`n_bits`.
    dissimilar, noise, steps, random_state
        As in `hashing.nets.siamese.Siamese2`.

    Returns
    -------
    list of Layer
    """
    rng = np.random.default_rng(random_state)
    widths = [X.shape[1], *([] if hidden is None else [hidden]), n_bits]
    with deterministic(), stage(0, steps, "the net learns from pairs"):
        weights = [
            tensor(rng.normal(0, 1 / d**0.5, (d, m))).requires_grad_() for d, m in pairwise(widths)
        ]
        biases = [tensor(np.zeros(m)).requires_grad_() for m in widths[1:]]
        layers = list(zip(weights, biases, strict=True))
        adam = Adam(weights, biases, LEARNING_RATE, 0.0, steps)
        for step in range(steps):
            if step % STEPS_BETWEEN_REPORTS == 0:
                report(step, steps)
            rows = rng.choice(len(X), min(BATCH_SIZE, len(X)), replace=False)
            x = X[rows] + noise * rng.standard_normal((len(rows), X.shape[1]), np.float32)
            xi = forward(tensor(x), layers)
            of_rows = torch.from_numpy(classes[rows]).to(xi.device)
            adam.step(loss(xi, of_rows, margin * n_bits**0.5, dissimilar))
    return [(weight.detach().cpu().numpy(), bias.detach().cpu().numpy()) for weight, bias in layers]
