"""The first guess of the classes of all rows, and the balance of class probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from hashing.arrays import row_blocks
from hashing.nets.views import View
from hashing.parts.anchors import rbf, squared_distances

Probabilities = NDArray[np.float32]

MAX_SUPPORT = 3000
"""Most labelled rows in the kernel ridge regression."""
RIDGE = 0.5
SCORE_SCALE = 6.0
"""Factor of the scores of kernel ridge regression before their softmax."""


def first_guess(
    view: View, labelled: NDArray[np.intp], truth: Probabilities, rng: np.random.Generator
) -> Probabilities:
    """Return (n, c) probabilities by kernel ridge regression on the labelled rows.

    The mirror images of the rows count as further rows. The kernel is Gaussian; its width is the
    median distance between labelled rows.

    Parameters
    ----------
    view : View
    labelled : (l,) intp
        The labelled rows.
    truth : (l, c)
        Their classes: 0 and 1.
    rng : numpy.random.Generator
        Draws `MAX_SUPPORT` of the labelled rows if there are more.
    """
    drawn = np.sort(
        rng.choice(len(labelled), min(len(labelled), MAX_SUPPORT), replace=False, shuffle=False)
    )
    images = view.images(labelled[drawn])
    support = np.concatenate(images)
    targets = np.concatenate([truth[drawn]] * len(images)).astype(np.float64)
    distances = squared_distances(support.astype(np.float64), support)
    # rbf(d², w) is exp(-d² / 2w²). A median of zero means that most rows are the same.
    width = float(np.sqrt(np.median(distances) / 2)) or 1.0
    kernel = rbf(distances, width)
    kernel[np.diag_indices(len(kernel))] += RIDGE
    mean = targets.mean(axis=0)
    weights = cho_solve(cho_factor(kernel, overwrite_a=True), targets - mean).astype(np.float32)
    scores = [
        np.mean(
            [rbf(squared_distances(x, support), width) @ weights for x in view.images(rows)], axis=0
        )
        for rows in row_blocks(view.values)
    ]
    return softmax(SCORE_SCALE * np.concatenate(scores))


def balance(P: Probabilities, frequencies: Probabilities, rounds: int = 20) -> Probabilities:
    """Scale each class so that the means of P are close to `frequencies`; rows sum to one."""
    factors = np.ones(P.shape[1], np.float64)
    P = P + np.float32(1e-9)
    for _ in range(rounds):
        factors *= frequencies / (P * factors / (P @ factors)[:, None]).mean(axis=0)
    scaled = P * factors
    balanced: Probabilities = (scaled / scaled.sum(axis=1, keepdims=True)).astype(np.float32)
    return balanced


def softmax(scores: NDArray[Any]) -> Probabilities:
    """Return probabilities that are proportional to the exponentials of scores, row by row."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    P: Probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return P
