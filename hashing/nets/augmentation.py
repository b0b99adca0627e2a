"""Random changes to the rows of a batch: mirroring, noise and mixing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hashing.nets.torch_helpers import tensor


def column_orders(mirror: Sequence[int] | None) -> list[Any]:
    """Return column indices: those of the descriptor itself and, if given, of its mirror image."""
    return [slice(None)] if mirror is None else [slice(None), np.asarray(mirror)]


def augment(
    x: NDArray[np.float32], orders: Sequence[Any], noise: float, rng: np.random.Generator
) -> torch.Tensor:
    """Mirror each row with probability one half, and add Gaussian noise. Overwrites `x`."""
    if len(orders) > 1:
        mirrored = rng.random(len(x)) < 0.5
        x[mirrored] = x[mirrored][:, orders[1]]
    if noise:
        x += noise * rng.standard_normal(x.shape, np.float32)
    return torch.from_numpy(x)


def mixup(
    x: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each row, and its targets, with another row, in a share uniform in [0, 1).

    The row itself has the larger share.

    References
    ----------
    H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018 (arXiv:1710.09412).
    """
    share = rng.random((len(x), 1), np.float32)
    others = torch.from_numpy(rng.permutation(len(x)))
    weight = tensor(np.maximum(share, 1 - share))
    return torch.lerp(x[others], x, weight), torch.lerp(targets[others], targets, weight)
