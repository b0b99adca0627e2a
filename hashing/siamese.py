"""Training of tanh nets on pairs, with torch: imported here and nowhere else, and only in `fit`."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from hashing.pairs import sample_pairs

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weights (d, m) and bias (m,): x becomes tanh(x·weights + bias)."""

N_PAIRS = 64  # of each kind in a step

_one_at_a_time = threading.Lock()


def forward(x: torch.Tensor, layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """ξ(x): (..., d) to (..., m), every entry in -1 to 1."""
    for weights, bias in layers:
        x = torch.tanh(x @ weights + bias)
    return x


def pair_loss(
    similar: torch.Tensor, dissimilar: torch.Tensor, margin: float, alpha: float
) -> torch.Tensor:
    """The hinge loss of relaxed codes of pairs.

    With r = ‖ξ(x) - ξ(x')‖ / √m, it is mean r² over similar pairs plus `alpha` times mean
    max(0, margin - r)² over dissimilar pairs.

    Parameters
    ----------
    similar, dissimilar : (2, p, m)
        ξ(x) and ξ(x') of p pairs.
    margin, alpha : float
    """
    # The gradient of this norm at 0 is 0, not NaN: two items may be the same and differ in class.
    apart = torch.linalg.vector_norm(dissimilar[0] - dissimilar[1], dim=-1)
    apart = apart / dissimilar.shape[-1] ** 0.5
    pull = (similar[0] - similar[1]).square().mean()
    return pull + alpha * torch.relu(margin - apart).square().mean()


def train(
    X: NDArray[np.float32],
    y: NDArray[np.int64],
    widths: Sequence[int],
    *,
    margin: float,
    alpha: float,
    noise: float,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    random_state: int,
) -> list[Layer]:
    """Layers of the given widths, trained on pairs of the rows of X.

    Each step draws `N_PAIRS` pairs of each kind, adds noise to both items, and lowers `pair_loss`
    by AdamW. The step size falls to zero along a cosine; biases do not decay.

    Parameters
    ----------
    X : (n, d)
        Labelled rows, standardised.
    y : (n,)
        Their labels, of two classes or more.
    widths : sequence of int
        Units of each layer; the last is the number of bits.
    margin, alpha, noise, steps, learning_rate, weight_decay, random_state
        As `hashing.net.Net1` has them.
    """
    rng = np.random.default_rng(random_state)
    with _settled():
        layers = [_layer(d, m, rng) for d, m in pairwise((X.shape[1], *widths))]
        optimizer = torch.optim.AdamW(
            [
                {"params": [weights for weights, _ in layers], "weight_decay": weight_decay},
                {"params": [bias for _, bias in layers], "weight_decay": 0.0},
            ],
            lr=learning_rate,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            rows = np.stack(sample_pairs(y, N_PAIRS, rng)).transpose(0, 2, 1)
            x = X[rows]
            if noise:
                x += noise * rng.standard_normal(x.shape, np.float32)
            similar, dissimilar = forward(torch.from_numpy(x), layers)
            optimizer.zero_grad()
            pair_loss(similar, dissimilar, margin, alpha).backward()
            optimizer.step()
            schedule.step()
    return [(weights.detach().numpy(), bias.detach().numpy()) for weights, bias in layers]


def _layer(d: int, m: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights N(0, 1 / 4d): small enough that tanh starts out nearly linear."""
    weights = rng.normal(0, 0.5 / d**0.5, (d, m)).astype(np.float32)
    bias = np.zeros(m, np.float32)
    return torch.from_numpy(weights).requires_grad_(), torch.from_numpy(bias).requires_grad_()


@contextmanager
def _settled() -> Iterator[None]:
    """One thread, so that sums have one order, and gradients on; as it was afterwards.

    Nothing is drawn from torch's generators. The number of threads is the process's, hence one
    training at a time.
    """
    with _one_at_a_time, torch.inference_mode(False), torch.enable_grad():
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
