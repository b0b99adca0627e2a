"""Training of the teacher's classifiers on what they predict together."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hashing.nets.classifier import Classifier
from hashing.nets.first_guess import Probabilities, balance, first_guess, softmax
from hashing.nets.torch_helpers import deterministic, tensor
from hashing.nets.views import View
from hashing.parts.linear import Layer
from hashing.progress import report

DEEP_WIDTH = 0.3125
"""Width of each of two hidden layers, as a share of the width of a single one: as fast."""
ROUNDS = 12
"""How often the targets are replaced by what the classifiers predict, at most."""
STEPS_PER_ROUND = 150
"""Least steps between two replacements: after fewer, classifiers predict worse than the guess."""
SHARPEN = 1 / 0.7
"""Power that probabilities are raised to before they become targets."""
STEPS_BETWEEN_REPORTS = 50


_Kind = tuple[list[View], list[int], float, NDArray[np.intp] | None]
"""Views, widths of the hidden layers, noise and rows of a classifier."""


@dataclass(frozen=True)
class Member:
    """A classifier and the rows that it sees, which are all (None) or have a number each."""

    classifier: Classifier
    rows: NDArray[np.intp] | None

    def train(self, targets: Probabilities, labelled: NDArray[np.intp], steps: int) -> None:
        """Train for some steps on targets of all rows."""
        if self.rows is not None:
            targets = targets[self.rows]
            labelled = np.flatnonzero(np.isin(self.rows, labelled))
        self.classifier.train(tensor(targets), labelled, steps)

    def predict(self, n: int) -> tuple[Probabilities, Probabilities]:
        """Return probabilities of n rows, zero where it does not see a row, and 1 where it does."""
        P = softmax(self.classifier.log_probabilities())
        if self.rows is None:
            return P, np.ones(n, np.float32)
        everywhere = np.zeros((n, P.shape[1]), np.float32)
        everywhere[self.rows] = P
        sees = np.zeros(n, np.float32)
        sees[self.rows] = 1
        return everywhere, sees


def self_train(
    descriptors: View,
    privileged: View | None,
    known: NDArray[np.intp] | None,
    labelled: NDArray[np.intp],
    truth: Probabilities,
    *,
    hidden: int,
    noise: float,
    privileged_noise: float,
    steps: int,
    random_state: int,
) -> tuple[Probabilities, Layer]:
    """Learn the classes of all rows from those of a few: see `hashing.nets.teacher.Teacher`.

    Parameters
    ----------
    descriptors : View
        Of all n rows.
    privileged : View, optional
        Of the rows `known`, in their order.
    known : (k,) intp, optional
        By default all rows.
    labelled : (l,) intp
        The rows whose class is known.
    truth : (l, c)
        Their classes: 0 and 1.
    hidden, noise, steps, random_state
        As in `Teacher`.
    privileged_noise : float
        Noise of the classifiers that see privileged features.

    Returns
    -------
    probabilities : (n, c) float32
    hidden_layer : Layer
        Of the classifier that sees descriptors only.
    """
    with deterministic():
        members = _members(
            descriptors,
            privileged,
            known,
            truth.shape[1],
            hidden,
            (noise, privileged_noise),
            steps,
            random_state,
        )
        P = _first_guess(descriptors, privileged, known, labelled, truth, random_state)
        P = _train_in_rounds(members, P, labelled, truth, steps)
    frequencies = truth.mean(axis=0)
    P = balance(P, frequencies)
    P[labelled] = truth
    return P, members[0].classifier.hidden_layer()


def _members(
    descriptors: View,
    privileged: View | None,
    known: NDArray[np.intp] | None,
    n_classes: int,
    hidden: int,
    noise: tuple[float, float],
    steps: int,
    random_state: int,
) -> list[Member]:
    """Return the classifiers: first the one whose hidden layer a net starts with."""
    own, more = noise
    deep, half = [math.ceil(DEEP_WIDTH * hidden)] * 2, [math.ceil(hidden / 2)]
    first: _Kind = [descriptors], [hidden], own, None
    if privileged is None:
        kinds: list[_Kind] = [first, ([descriptors], deep, own, None)]
    else:
        seen = descriptors if known is None else descriptors.at(known)
        kinds = [
            first,
            ([seen, privileged], half, more, known),
            ([privileged], half, more, known),
            ([privileged], deep, more, known),
        ]
    return [
        Member(Classifier(views, widths, n_classes, level, steps, [random_state, i]), rows)
        for i, (views, widths, level, rows) in enumerate(kinds, 1)
    ]


def _first_guess(
    descriptors: View,
    privileged: View | None,
    known: NDArray[np.intp] | None,
    labelled: NDArray[np.intp],
    truth: Probabilities,
    random_state: int,
) -> Probabilities:
    """Return the guess by descriptors, averaged with that by privileged features where known."""

    def guess(view: View, labelled: NDArray[np.intp], truth: Probabilities) -> Probabilities:
        return first_guess(view, labelled, truth, np.random.default_rng([random_state, 0]))

    n = len(descriptors.values)
    rows = np.arange(n) if known is None else known
    both, i, j = np.intersect1d(rows, labelled, assume_unique=True, return_indices=True)
    if privileged is None or not len(both):
        return guess(descriptors, labelled, truth)
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(guess, privileged, i, truth[j])
        P = guess(descriptors, labelled, truth)
        P[rows] = (P[rows] + other.result()) / 2
    return P


def _train_in_rounds(
    members: list[Member],
    P: Probabilities,
    labelled: NDArray[np.intp],
    truth: Probabilities,
    steps: int,
) -> Probabilities:
    """Train the classifiers on what they predict; return their last prediction."""
    rounds = min(ROUNDS, max(1, steps // STEPS_PER_ROUND))
    ends = np.linspace(0, steps, rounds + 1).astype(int).tolist()
    done, n = 0, len(P)
    with ThreadPoolExecutor(len(members)) as threads:
        for end in ends[1:]:
            targets = _targets(P, labelled, truth)
            while done < end:
                report(done, steps)
                some = min(STEPS_BETWEEN_REPORTS, end - done)
                list(threads.map(lambda m, k=some, t=targets: m.train(t, labelled, k), members))
                done += some
            predicted = list(threads.map(lambda m: m.predict(n), members))
            P = sum(one for one, _ in predicted) / sum(sees for _, sees in predicted)[:, None]
    return P


def _targets(P: Probabilities, labelled: NDArray[np.intp], truth: Probabilities) -> Probabilities:
    """Return balanced, sharpened probabilities, with the labels where they are known."""
    frequencies = truth.mean(axis=0)
    targets = balance(balance(P, frequencies) ** np.float32(SHARPEN), frequencies)
    targets[labelled] = truth
    return targets
