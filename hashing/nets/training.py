"""The training of the nets: first the teacher, then the codes.

This module, `teacher`, `classifier`, `augmentation`, `ranking_loss` and `torch_helpers` import
torch; no other module does, and only `fit` imports these.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hashing.nets import ranking_loss
from hashing.nets.teacher import teach
from hashing.parts.linear import Layer
from hashing.progress import stage


def train_layers(
    X: NDArray[np.float32],
    y: NDArray[np.int64],
    n_bits: int,
    *,
    two_layers: bool,
    hidden: int,
    teacher_steps: int,
    steps: int,
    mirror: Sequence[int] | None,
    noise: float,
    random_state: int,
) -> tuple[list[Layer], float]:
    """Train the layers of a net, and report the progress.

    Parameters
    ----------
    X : (n, d)
        Standardised descriptors.
    y : (n,)
        Labels of two classes or more; -1 for a row without a label.
    n_bits, hidden, teacher_steps, steps, mirror, noise, random_state
        As in `hashing.nets.net.Net2`.
    two_layers : bool
        Whether the net starts from the teacher's hidden layer; otherwise it has one layer.

    Returns
    -------
    layers : list of Layer
    reused_seconds : float
        Seconds saved because the teacher had been trained before.
    """
    start = time.perf_counter()
    total = teacher_steps + steps
    with stage(0, total, "the teacher learns the classes"):
        teacher = teach(
            X,
            y,
            hidden=hidden,
            mirror=mirror,
            noise=noise,
            steps=teacher_steps,
            random_state=random_state,
        )
    reused_seconds = max(0.0, teacher.seconds - (time.perf_counter() - start))
    with stage(teacher_steps, total, "the net learns the codes"):
        layers = ranking_loss.train(
            X,
            teacher.probabilities,
            n_bits,
            teacher.hidden if two_layers else None,
            mirror=mirror,
            noise=noise,
            steps=steps,
            random_state=random_state,
        )
    return layers, reused_seconds
