"""Training of nets whose codes rank well, with a loss on the average precision itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hashing.nets.augmentation import augmented
from hashing.nets.first_guess import Probabilities
from hashing.nets.torch_helpers import Adam, deterministic, forward, tensor
from hashing.nets.views import View
from hashing.parts.linear import Layer
from hashing.progress import report

BATCH_SIZE = 512
STEPS_BETWEEN_REPORTS = 50
LEARNING_RATE = 0.001
LEARNING_RATE_ONE_LAYER = 0.003
WEIGHT_DECAY = 0.05
SLOPES = (1.0, 4.0)
"""Slope of the tanh that stands for the sign, at the first step and at the last."""


class AveragePrecision(torch.autograd.Function):  # type: ignore[misc]
    """Mean expected average precision of rankings by distances that fall between bins.

    Each distance counts in its two nearest bins, in proportion. With N(t) items and R(t) expected
    relevant ones in bin t, and n(t), r(t) those in the bins before it, the value for a query is

        AP = Σ_t R(t) · (r(t) + (R(t) + 1)/2) / (n(t) + (N(t) + 1)/2)  /  Σ_t R(t)

    It is the precision at a relevant item in the middle of its tie.

    References
    ----------
    K. He, F. Cakir, S. A. Bargal, S. Sclaroff, "Hashing as Tie-Aware Learning to Rank", CVPR 2018
    (arXiv:1705.08562): average precision of tied rankings, relaxed by a histogram with triangular
    bins. Deviations: relevance is a probability rather than 0 or 1, and the precision in the
    middle of a tie stands for its mean over the tie.
    """

    @staticmethod
    def forward(
        ctx: Any, distances: torch.Tensor, relevance: torch.Tensor, n_bins: int
    ) -> torch.Tensor:
        """Return the mean over queries.

        Parameters
        ----------
        distances : (q, n), 0 to 1
            NaN excludes an item from the ranking of a query.
        relevance : (q, n), 0 to 1
        n_bins : int
            The bins are 0, 1/n_bins, ... 1, one more than `n_bins`.
        """
        ranked = ~torch.isnan(distances)
        place = torch.where(ranked, distances, 0).clamp(0, 1) * n_bins
        lower = place.floor().clamp(max=n_bins - 1)
        share = place - lower
        lower = lower.long()
        relevance = relevance * ranked
        N, R = (
            distances.new_zeros(len(distances), n_bins + 1)
            .scatter_add_(1, lower, weight * (1 - share))
            .scatter_add_(1, lower + 1, weight * share)
            .requires_grad_()
            for weight in (ranked.to(distances.dtype), relevance)
        )
        with torch.enable_grad():
            precision = (R.cumsum(1) - R / 2 + 0.5) / (N.cumsum(1) - N / 2 + 0.5)
            total = R.sum(1).detach().clamp_min(1e-6)
            value = ((R * precision).sum(1) / total).mean()
            by_N, by_R = torch.autograd.grad(value, (N, R))
        # A growing distance moves its item from one bin to the next.
        slope = by_N.diff(dim=1).gather(1, lower) + relevance * by_R.diff(dim=1).gather(1, lower)
        ctx.save_for_backward(slope * ranked * n_bins)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return the gradient by the distances. The sum of relevances counts as a constant."""
        (slope,) = ctx.saved_tensors
        return gradient * slope, None, None


def loss(z: torch.Tensor, probabilities: torch.Tensor, slope: float) -> torch.Tensor:
    """Return one minus the average precision of a batch, each row a query among the others.

    The bit sign(z) is relaxed to tanh(slope z), and a distance to (1 - <u, v> / m) / 2. The
    relevance of two rows to each other is the probability that they are of one class.

    Parameters
    ----------
    z : (b, m)
        Projections.
    probabilities : (b, c)
        Of the classes.
    slope : float
    """
    u = torch.tanh(slope * z)
    distances = (1 - u @ u.T / z.shape[1]) / 2
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    distances = distances.masked_fill(itself, torch.nan)
    value: torch.Tensor = 1 - AveragePrecision.apply(
        distances, probabilities @ probabilities.T, z.shape[1]
    )
    return value


def train(
    view: View,
    probabilities: Probabilities,
    n_bits: int,
    hidden: Layer | None,
    *,
    noise: float,
    steps: int,
    random_state: int,
) -> list[Layer]:
    """Train a net whose codes rank rows by the probability that they share their class.

    Each step draws `BATCH_SIZE` rows, mirrors some, adds noise, and lowers `loss` by AdamW. The
    slope grows geometrically from the first of `SLOPES` to the last.

    Parameters
    ----------
    view : View
        The descriptors.
    probabilities : (n, c)
        Of the classes.
    n_bits : int
    hidden : Layer, optional
        A relu layer to start from, which is trained further. Without it the net has one layer.
    noise, steps, random_state
        As in `hashing.nets.net.Net2`.

    Returns
    -------
    list of Layer
    """
    rng = np.random.default_rng([random_state, 100])
    n = len(probabilities)
    with deterministic():
        P = tensor(probabilities)
        layers = [] if hidden is None else [hidden]
        d = view.values.shape[1] if hidden is None else hidden[0].shape[1]
        last_weights = rng.normal(0, 1 / d**0.5, (d, n_bits)).astype(np.float32)
        layers.append((last_weights, np.zeros(n_bits, np.float32)))
        weights = [tensor(weight).clone().requires_grad_() for weight, _ in layers]
        biases = [tensor(bias).clone().requires_grad_() for _, bias in layers]
        rate = LEARNING_RATE_ONE_LAYER if hidden is None else LEARNING_RATE
        adam = Adam(weights, biases, rate, WEIGHT_DECAY, steps)
        first, last = SLOPES
        for step in range(steps):
            if step % STEPS_BETWEEN_REPORTS == 0:
                report(step, steps)
            rows = rng.integers(0, n, min(BATCH_SIZE, max(n, 2)))
            x = augmented([view], rows, noise, rng)
            z = forward(x, list(zip(weights, biases, strict=True)))
            slope = first * (last / first) ** (step / steps)
            adam.step(loss(z, P[torch.from_numpy(rows).to(P.device)], slope))
    return [
        (weight.detach().cpu().numpy(), bias.detach().cpu().numpy())
        for weight, bias in zip(weights, biases, strict=True)
    ]
