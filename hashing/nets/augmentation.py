"""Random changes to the rows of a batch: mirroring, noise and mixing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hashing.nets.torch_helpers import tensor
from hashing.nets.views import View


def augmented(
    views: Sequence[View], rows: NDArray[np.intp], noise: float, rng: np.random.Generator
) -> torch.Tensor:
    """Return the views of rows side by side, (b, d), each row mirrored or not, with noise.

    A row is mirrored with probability one half, in all its views that can be.
    """
    mirrored = None
    parts = []
    for view in views:
        x = view.values[rows]
        if view.mirror is not None:
            if mirrored is None:
                mirrored = rng.random(len(rows)) < 0.5
            x[mirrored] = x[mirrored][:, view.mirror]
        parts.append(x)
    x = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    if noise:
        x += np.float32(noise) * rng.standard_normal(x.shape, np.float32)
    return tensor(x)


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
    others = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    weight = tensor(np.maximum(share, 1 - share))
    return torch.lerp(x[others], x, weight), torch.lerp(targets[others], targets, weight)
