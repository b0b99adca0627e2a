"""Class probabilities of all descriptors from the labels of a few: the teacher of the nets.

torch is imported here, in `ranking.py` and in `training.py`, nowhere else, and only in `fit`.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from threading import Lock
from typing import Any, ParamSpec

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from hashing.nets.torch_helpers import Adam, Layer, deterministic, forward, tensor
from hashing.parts.anchors import rbf, squared_distances
from hashing.progress import report
from hashing.validation import BLOCK

P = ParamSpec("P")
Probabilities = NDArray[np.float32]

DEPTHS = (1, 2)
"""Hidden layers of the classifiers that learn from what they hold together."""
DEEP = 0.3125
"""Width of the layers of a deep one, as a share of that of a single layer: as fast a step."""
AVERAGE = 0.99
"""Share of the weights that predict that is kept at a step; the rest comes from those learned."""
ROUNDS = 15
"""Times that their probabilities are taken anew."""
N_BATCH = 512
LABELLED = 0.125
"""Share of each batch that carries labels, where there are rows without."""
SHARPEN = 1 / 0.7
"""Power that probabilities are raised to before they are learned from."""
LEARNING_RATE = 0.001
WEIGHT_DECAY = 0.05
MAX_SUPPORT = 3000
"""Labelled rows that the first guess is made from."""
RIDGE = 0.5
SCALE = 6.0
"""What scores of kernel ridge regression are multiplied with before their softmax."""


@dataclass(frozen=True)
class Teacher:
    """What the nets learn from.

    Attributes
    ----------
    probabilities : (n, c) float32
        Of each class, for each row; 0 and 1 where the label is known.
    hidden : Layer
        The hidden layer of one of the classifiers.
    seconds : float
        How long it took.
    """

    probabilities: Probabilities
    hidden: Layer
    seconds: float


def _last_kept(learn: Callable[P, Teacher]) -> Callable[P, Teacher]:
    """The last teacher is given again for the same data and options.

    The nets of a table, of any length, learn from the same one.
    """
    lock = Lock()
    last: dict[bytes, Teacher] = {}

    @wraps(learn)
    def kept(*arrays: P.args, **options: P.kwargs) -> Teacher:
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


@_last_kept
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

    A first guess is kernel ridge regression on the labelled rows and their mirror images, with an
    RBF kernel as wide as the median distance. Then two classifiers, of one hidden relu layer and
    of two (`DEPTHS`), are trained on all rows by AdamW, under mirroring, mixup and Gaussian noise;
    their targets are the labels, and for the other rows what both together, by a moving average of
    their weights and over a row and its mirror image, held at the beginning of the round, brought
    to the class frequencies of the labels and sharpened. So the descriptors without labels say
    where the classes part.

    Parameters
    ----------
    X : (n, d)
        Standardised descriptors.
    y : (n,)
        Labels of two classes or more, -1 for a row without. The class frequencies of the labelled
        rows are taken for those of all rows.
    hidden : int
        Units of the layer of the first; those of the second have `DEEP` times as many.
    mirror : sequence of int, optional
        ``X[:, mirror]`` are descriptors of the mirror images.
    noise : float
        Standard deviation of the noise.
    steps : int
        Gradient steps of each classifier, of up to `N_BATCH` rows.
    random_state : int

    References
    ----------
    Q. Xie, M.-T. Luong, E. Hovy, Q. V. Le, "Self-training with Noisy Student improves ImageNet
    classification", CVPR 2020 (arXiv:1911.04252): soft, balanced targets from a teacher without
    noise for a student with noise. D.-H. Lee, "Pseudo-Label", ICML workshop 2013. H. Zhang et al.,
    "mixup: Beyond Empirical Risk Minimization", ICLR 2018 (arXiv:1710.09412). Here the student
    goes on from its own weights, and several average what they hold.
    """
    start = time.perf_counter()
    labelled = np.flatnonzero(y >= 0)
    classes, known = np.unique(y[labelled], return_inverse=True)
    truth = np.zeros((len(labelled), len(classes)), np.float32)
    truth[np.arange(len(labelled)), known] = 1
    sides = sides_of(mirror)
    rng = np.random.default_rng([random_state, 0])

    def targets(P: Probabilities) -> torch.Tensor:
        P = balanced(balanced(P, truth.mean(axis=0)) ** SHARPEN, truth.mean(axis=0))
        P[labelled] = truth
        return tensor(P)

    with deterministic():
        members = [
            _Classifier(
                [X.shape[1], *_widths(hidden, depth), len(classes)], steps, [random_state, 1 + i]
            )
            for i, depth in enumerate(DEPTHS)
        ]
        P = first_guess(X, labelled, truth, sides, rng)
        with ThreadPoolExecutor(len(members)) as threads:
            ends = np.linspace(0, steps, min(ROUNDS, steps) + 1).astype(int)
            for done, n_steps in zip(ends.tolist(), np.diff(ends).tolist(), strict=False):
                report(done, steps)
                goals = targets(P)
                list(
                    threads.map(
                        lambda member, n=n_steps, T=goals: member.train(
                            X, T, labelled, sides, noise, n
                        ),
                        members,
                    )
                )
                held = threads.map(lambda member: member.log_probabilities(X, sides), members)
                P = np.mean([_softmax(logs) for logs in held], axis=0, dtype=np.float32)
    P[labelled] = truth
    return Teacher(P, members[0].hidden_layer(), time.perf_counter() - start)


def _widths(hidden: int, depth: int) -> list[int]:
    return [hidden] if depth == 1 else [math.ceil(DEEP * hidden)] * depth


class _Classifier:
    """Hidden relu layers and logits; predicts with a moving average of its weights.

    Such an average is worth a lower learning rate, or an ensemble of late weights: A. Tarvainen,
    H. Valpola, "Mean teachers are better role models", NeurIPS 2017 (arXiv:1703.01780).
    """

    def __init__(self, widths: Sequence[int], steps: int, seed: list[int]) -> None:
        self._rng = np.random.default_rng(seed)
        scales = [(2 / d) ** 0.5 for d in widths[:-2]] + [0.5 / widths[-2] ** 0.5]
        weights = [
            tensor(self._rng.normal(0, scale, shape)).requires_grad_()
            for scale, shape in zip(scales, pairwise(widths), strict=True)
        ]
        biases = [tensor(np.zeros(m)).requires_grad_() for m in widths[1:]]
        self._learned = list(zip(weights, biases, strict=True))
        self._average = [
            (weight.detach().clone(), bias.detach().clone()) for weight, bias in self._learned
        ]
        self._adam = Adam(weights, biases, LEARNING_RATE, WEIGHT_DECAY, steps)

    def train(
        self,
        X: NDArray[np.float32],
        targets: torch.Tensor,
        labelled: NDArray[np.intp],
        sides: Sequence[Any],
        noise: float,
        steps: int,
    ) -> None:
        """Cross-entropy with soft targets, on rows that are mirrored, mixed and noisy."""
        rng, size = self._rng, min(N_BATCH, len(X))
        n_labelled = 0 if len(labelled) == len(X) else max(1, round(LABELLED * size))
        with torch.enable_grad():
            for _ in range(steps):
                rows = rng.integers(0, len(X), size)
                rows[:n_labelled] = labelled[rng.integers(0, len(labelled), n_labelled)]
                x = augmented(X[rows], sides, noise, rng)
                x, t = mixed(x, targets[torch.from_numpy(rows)], rng)
                loss = -(t * forward(x, self._learned).log_softmax(1)).sum(1).mean()
                self._adam.step(loss)
                self._follow()

    def _follow(self) -> None:
        with torch.no_grad():
            for averages, learned in zip(self._average, self._learned, strict=True):
                for average, one in zip(averages, learned, strict=True):
                    average.lerp_(one, 1 - AVERAGE)

    def log_probabilities(
        self, X: NDArray[np.float32], sides: Sequence[Any]
    ) -> NDArray[np.float32]:
        """Means over a row and its mirror image, (n, c)."""
        with torch.no_grad():
            return np.concatenate(
                [
                    np.mean(
                        [
                            forward(torch.from_numpy(block[:, side]), self._average)
                            .log_softmax(1)
                            .numpy()
                            for side in sides
                        ],
                        axis=0,
                    )
                    for block in (X[i : i + BLOCK] for i in range(0, len(X), BLOCK))
                ]
            )

    def hidden_layer(self) -> Layer:
        """The first, by the average."""
        weights, bias = self._average[0]
        return weights.numpy(), bias.numpy()


def sides_of(mirror: Sequence[int] | None) -> list[Any]:
    """Indices of the columns of a descriptor as it is and, if there is such a thing, mirrored."""
    return [slice(None)] if mirror is None else [slice(None), np.asarray(mirror)]


def augmented(
    x: NDArray[np.float32], sides: Sequence[Any], noise: float, rng: np.random.Generator
) -> torch.Tensor:
    """Each row, a fresh array, as it is or mirrored, with noise."""
    if len(sides) > 1:
        mirrored = rng.random(len(x)) < 0.5
        x[mirrored] = x[mirrored][:, sides[1]]
    if noise:
        x += noise * rng.standard_normal(x.shape, np.float32)
    return torch.from_numpy(x)


def mixed(
    x: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup: each row with another, and their targets likewise, in a share uniform in 0 to 1."""
    share = rng.random((len(x), 1), np.float32)
    others = torch.from_numpy(rng.permutation(len(x)))
    weight = tensor(np.maximum(share, 1 - share))
    return torch.lerp(x[others], x, weight), torch.lerp(targets[others], targets, weight)


def first_guess(
    X: NDArray[np.float32],
    labelled: NDArray[np.intp],
    truth: Probabilities,
    sides: Sequence[Any],
    rng: np.random.Generator,
) -> Probabilities:
    """Kernel ridge regression on the labelled rows, mirrored too: (n, c) probabilities."""
    some = np.sort(
        rng.choice(len(labelled), min(len(labelled), MAX_SUPPORT), replace=False, shuffle=False)
    )
    support = np.concatenate([X[labelled[some]][:, side] for side in sides])
    goals = np.concatenate([truth[some]] * len(sides)).astype(np.float64)
    distances = squared_distances(support.astype(np.float64), support)
    # rbf(d², w) is exp(-d² / 2w²); a median of zero is of rows that are all the same.
    width = float(np.sqrt(np.median(distances) / 2)) or 1.0
    kernel = rbf(distances, width)
    kernel[np.diag_indices(len(kernel))] += RIDGE
    mean = goals.mean(axis=0)
    weights = cho_solve(cho_factor(kernel, overwrite_a=True), goals - mean).astype(np.float32)
    scores = [
        np.mean(
            [rbf(squared_distances(block[:, side], support), width) @ weights for side in sides],
            axis=0,
        )
        for block in (X[i : i + BLOCK] for i in range(0, len(X), BLOCK))
    ]
    return _softmax(SCALE * np.concatenate(scores))


def balanced(P: Probabilities, frequencies: Probabilities, rounds: int = 20) -> Probabilities:
    """P times a factor for each class, rows summing to one, means close to `frequencies`."""
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
