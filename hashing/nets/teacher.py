"""The teacher of the nets: class probabilities of all descriptors from the labels of a few."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from threading import Lock
from typing import Any, ParamSpec

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from hashing.arrays import row_blocks
from hashing.nets.augmentation import column_orders
from hashing.nets.classifier import Classifier
from hashing.nets.torch_helpers import deterministic, tensor
from hashing.parts.anchors import rbf, squared_distances
from hashing.parts.linear import Layer
from hashing.progress import report

Params = ParamSpec("Params")
Probabilities = NDArray[np.float32]

DEPTHS = (1, 2)
"""Number of hidden layers of each classifier."""
DEEP_WIDTH = 0.3125
"""Width of the layers of a deep classifier, as a share of the single layer's: equally fast."""
ROUNDS = 15
"""How often the targets are replaced by what the classifiers predict."""
SHARPEN = 1 / 0.7
"""Power that probabilities are raised to before they become targets."""
MAX_SUPPORT = 3000
"""Most labelled rows in the kernel ridge regression of the first guess."""
RIDGE = 0.5
SCORE_SCALE = 6.0
"""Factor of the scores of kernel ridge regression before their softmax."""


@dataclass(frozen=True)
class Teacher:
    """What the nets learn from.

    Attributes
    ----------
    probabilities : (n, c) float32
        Of each class, for each row; 0 and 1 where the label is known.
    hidden : Layer
        The hidden layer of the classifier that has one.
    seconds : float
        How long the training took.
    """

    probabilities: Probabilities
    hidden: Layer
    seconds: float


def _keep_last(learn: Callable[Params, Teacher]) -> Callable[Params, Teacher]:
    """Return the previous teacher if the data and options are the same as before.

    The nets of a benchmark table have the same teacher, whatever their code length.
    """
    lock = Lock()
    last: dict[bytes, Teacher] = {}

    @wraps(learn)
    def kept(*arrays: Params.args, **options: Params.kwargs) -> Teacher:
        key = hashlib.sha256(repr(options).encode())
        for array in map(np.ascontiguousarray, arrays):
            key.update(repr(array.shape).encode())
            key.update(array.data)
        with lock:
            if key.digest() not in last:
                last.clear()
                last[key.digest()] = learn(*arrays, **options)
            return last[key.digest()]

    return kept


@_keep_last
def teach(
    X: NDArray[np.float32],
    y: NDArray[np.int64],
    *,
    hidden: int,
    mirror: Sequence[int] | None,
    noise: float,
    steps: int,
    random_state: int,
) -> Teacher:
    """Learn the classes of all rows from those of a few.

    The first guess is kernel ridge regression on the labelled rows and their mirror images, with
    an RBF kernel whose width is the median distance. Then two classifiers, of one hidden relu
    layer and of two (`DEPTHS`), are trained on all rows by AdamW, with mirroring, mixup and
    Gaussian noise. The targets of labelled rows are their labels. Those of other rows are the
    probabilities that both classifiers together, with averaged weights and over a row and its
    mirror image, gave at the beginning of the round, balanced to the class frequencies of the
    labels and sharpened. In this way unlabelled descriptors show where the classes part.

    Parameters
    ----------
    X : (n, d)
        Standardised descriptors.
    y : (n,)
        Labels of two classes or more; -1 for a row without a label. The class frequencies of the
        labelled rows are taken for those of all rows.
    hidden : int
        Units of the single hidden layer; those of the deep classifier have `DEEP_WIDTH` times as
        many.
    mirror : sequence of int, optional
        ``X[:, mirror]`` are descriptors of the mirror images.
    noise : float
        Standard deviation of the noise.
    steps : int
        Gradient steps of each classifier, of up to `classifier.BATCH_SIZE` rows.
    random_state : int

    References
    ----------
    Q. Xie, M.-T. Luong, E. Hovy, Q. V. Le, "Self-training with Noisy Student improves ImageNet
    classification", CVPR 2020 (arXiv:1911.04252): soft, balanced targets from a teacher without
    noise for a student with noise. D.-H. Lee, "Pseudo-Label", ICML workshop 2013. Deviations: the
    student continues from its own weights, and the targets are the mean over two classifiers.
    """
    start = time.perf_counter()
    labelled = np.flatnonzero(y >= 0)
    classes, known = np.unique(y[labelled], return_inverse=True)
    truth = np.zeros((len(labelled), len(classes)), np.float32)
    truth[np.arange(len(labelled)), known] = 1
    orders = column_orders(mirror)
    with deterministic():
        classifiers = [
            Classifier(
                [X.shape[1], *_hidden_widths(hidden, depth), len(classes)],
                steps,
                [random_state, 1 + i],
            )
            for i, depth in enumerate(DEPTHS)
        ]
        rng = np.random.default_rng([random_state, 0])
        guess = first_guess(X, labelled, truth, orders, rng)
        probabilities = _self_train(classifiers, guess, X, labelled, truth, orders, noise, steps)
    probabilities[labelled] = truth
    return Teacher(probabilities, classifiers[0].hidden_layer(), time.perf_counter() - start)


def _hidden_widths(hidden: int, depth: int) -> list[int]:
    return [hidden] if depth == 1 else [math.ceil(DEEP_WIDTH * hidden)] * depth


def _self_train(
    classifiers: list[Classifier],
    probabilities: Probabilities,
    X: NDArray[np.float32],
    labelled: NDArray[np.intp],
    truth: Probabilities,
    orders: Sequence[Any],
    noise: float,
    steps: int,
) -> Probabilities:
    """Train the classifiers, in rounds, on what they predict; return their last prediction."""
    ends = np.linspace(0, steps, min(ROUNDS, steps) + 1).astype(int)
    with ThreadPoolExecutor(len(classifiers)) as threads:
        for done, n_steps in zip(ends.tolist(), np.diff(ends).tolist(), strict=False):
            report(done, steps)
            targets = _targets(probabilities, labelled, truth)
            list(
                threads.map(
                    lambda classifier, n=n_steps, t=targets: classifier.train(
                        X, t, labelled, orders, noise, n
                    ),
                    classifiers,
                )
            )
            predicted = threads.map(lambda c: c.log_probabilities(X, orders), classifiers)
            probabilities = np.mean(
                [_softmax(logs) for logs in predicted], axis=0, dtype=np.float32
            )
    return probabilities


def _targets(
    probabilities: Probabilities, labelled: NDArray[np.intp], truth: Probabilities
) -> torch.Tensor:
    """Return balanced, sharpened probabilities, with the labels where they are known."""
    frequencies = truth.mean(axis=0)
    targets = balance(balance(probabilities, frequencies) ** SHARPEN, frequencies)
    targets[labelled] = truth
    return tensor(targets)


def first_guess(
    X: NDArray[np.float32],
    labelled: NDArray[np.intp],
    truth: Probabilities,
    orders: Sequence[Any],
    rng: np.random.Generator,
) -> Probabilities:
    """Return (n, c) probabilities by kernel ridge regression on labelled and mirrored rows."""
    drawn = np.sort(
        rng.choice(len(labelled), min(len(labelled), MAX_SUPPORT), replace=False, shuffle=False)
    )
    support = np.concatenate([X[labelled[drawn]][:, order] for order in orders])
    targets = np.concatenate([truth[drawn]] * len(orders)).astype(np.float64)
    distances = squared_distances(support.astype(np.float64), support)
    # rbf(d², w) is exp(-d² / 2w²). A median of zero means that most rows are the same.
    width = float(np.sqrt(np.median(distances) / 2)) or 1.0
    kernel = rbf(distances, width)
    kernel[np.diag_indices(len(kernel))] += RIDGE
    mean = targets.mean(axis=0)
    weights = cho_solve(cho_factor(kernel, overwrite_a=True), targets - mean).astype(np.float32)
    scores = [
        np.mean(
            [
                rbf(squared_distances(X[rows][:, order], support), width) @ weights
                for order in orders
            ],
            axis=0,
        )
        for rows in row_blocks(X)
    ]
    return _softmax(SCORE_SCALE * np.concatenate(scores))


def balance(P: Probabilities, frequencies: Probabilities, rounds: int = 20) -> Probabilities:
    """Scale each class so that the means of P are close to `frequencies`; rows sum to one."""
    factors = np.ones(P.shape[1], np.float64)
    P = P + np.float32(1e-9)
    for _ in range(rounds):
        factors *= frequencies / (P * factors / (P @ factors)[:, None]).mean(axis=0)
    scaled = P * factors
    balanced: Probabilities = (scaled / scaled.sum(axis=1, keepdims=True)).astype(np.float32)
    return balanced


def _softmax(scores: NDArray[Any]) -> Probabilities:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    P: Probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return P
