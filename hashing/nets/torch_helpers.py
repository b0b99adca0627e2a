"""Gradient descent with torch, such that the same seed gives the same weights."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hashing.parts.blas import one_blas_thread

WARM_UP_STEPS = 50
"""Steps in which the learning rate rises to its value."""
FINAL_SHARE = 0.02
"""Share of the learning rate that is left at the end."""

_one_training_at_a_time = threading.RLock()


def device() -> torch.device:
    """Return the GPU if torch finds one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tensor(array: NDArray[Any]) -> torch.Tensor:
    """Return a float32 tensor on the `device`."""
    return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device())


class Adam:
    """AdamW whose step rises for `WARM_UP_STEPS` and falls along a cosine; biases do not decay.

    Parameters
    ----------
    weights, biases : sequence of tensors
    learning_rate : float
    weight_decay : float
        A multiple of the learning rate.
    steps : int
        Number of steps in the whole training.
    """

    def __init__(
        self,
        weights: Sequence[torch.Tensor],
        biases: Sequence[torch.Tensor],
        learning_rate: float,
        weight_decay: float,
        steps: int,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(weights), "weight_decay": weight_decay},
            {"params": list(biases), "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            lambda i: (
                min(1, (i + 1) / WARM_UP_STEPS)
                * (
                    FINAL_SHARE
                    + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(1, i / steps)))
                )
            ),
        )

    def step(self, loss: torch.Tensor) -> None:
        """Take one step down the gradient of `loss`."""
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._schedule.step()


def forward(x: torch.Tensor, layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Apply affine layers with relu between them, (b, d) to (b, m)."""
    for weight, bias in layers[:-1]:
        x = torch.relu(torch.addmm(bias, x, weight))
    weight, bias = layers[-1]
    return torch.addmm(bias, x, weight)


@contextmanager
def deterministic() -> Iterator[None]:
    """Use one thread per product, so that sums have one order, and switch gradients on.

    Both are restored at the end. Training draws nothing from torch's random generators. The number
    of threads is a setting of the whole process, so only one training runs at a time. On a GPU,
    the order of the sums is up to the GPU's library.
    """
    with (
        _one_training_at_a_time,
        one_blas_thread(),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
