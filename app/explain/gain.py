"""The measured gain of labels that `label_next` chooses over random ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.datasets.dataset import Dataset
from app.explain.data import map_of_codes
from hashing import Hasher, make_hasher
from hashing.progress import Progress
from hashing.theory.labels import label_next
from hashing.theory.samples import Estimate, classes_of, sample
from hashing.validation import InvalidInput, check_int

LAW = "the gain of chosen labels"
ITEMS = 10_000
"""Labelled items that the gain is measured on, at most."""
LEAST = 50
"""Fewest labelled items."""
SEEDS = (0, 1, 2)
_QUERIES = 500


@dataclass(frozen=True)
class Gain:
    """mAP with chosen and with random labels, over draws of the queries and the first labels.

    Attributes
    ----------
    n_before, n_new : int
        Labels that were known, drawn at random, and labels that were added.
    chosen, random, difference : Estimate
        mAP with labels by `label_next`, with random ones, and the first less the second.
    """

    n_before: int
    n_new: int
    chosen: Estimate
    random: Estimate
    difference: Estimate


def measure_gain(
    dataset: Dataset,
    n_new: int,
    *,
    method: str = "sdh",
    n_bits: int = 32,
    params: Mapping[str, Any] | None = None,
    n_before: int | None = None,
    seeds: Sequence[int] = SEEDS,
    progress: Progress = lambda done, of, now: None,
) -> Gain:
    """Hide the labels of a labelled dataset, and compare chosen labels with random ones.

    Parameters
    ----------
    dataset : Dataset
        At least `LEAST` of its items must have labels, of two classes or more.
    n_new : int
        Labels to add; reduced to a quarter of the items if there are fewer.
    method : str
        A method that learns from labels.
    n_bits : int
    params : mapping, optional
        Parameters of the method that are not as usual.
    n_before : int, optional
        Labels that are known before; by default as many as are added.
    seeds : sequence of int
        One draw each.
    progress : callable
        Takes the encoders trained, their number, and what is done next.
    """
    check_int("n_new", n_new, 1, 10**9)
    labels = dataset.one_label_each(LAW)
    labelled = np.flatnonzero(labels >= 0)
    classes_of(labels, len(labels), LAW)
    if len(labelled) < LEAST:
        raise InvalidInput(f"{LAW} needs at least {LEAST} labelled items, got {len(labelled)}")
    labelled = labelled[sample(len(labelled), ITEMS, 0)]
    X, y = dataset.descriptors[labelled], labels[labelled]
    n_new = min(n_new, len(labelled) // 4)
    before = n_new if n_before is None else min(n_before, len(labelled) // 4)
    total = 2 * len(seeds)
    scores: list[tuple[float, float]] = []
    for seed in seeds:

        def fitted(X: NDArray[np.float32], labels: NDArray[np.int64], seed: int = seed) -> Hasher:
            hasher = make_hasher(method, n_bits=n_bits, random_state=seed, **(params or {}))
            return hasher.fit(X, labels)

        def step(kind: int, now: str) -> None:
            progress(2 * len(scores) + kind, total, f"draw {len(scores) + 1}, {now} labels")

        scores.append(_draw(X, y, before, n_new, seed, fitted, step))
    progress(total, total, "done")
    chosen, random = np.array(scores).T
    return Gain(
        before,
        n_new,
        Estimate.of_mean(chosen),
        Estimate.of_mean(random),
        Estimate.of_mean(chosen - random),
    )


def _draw(
    X: NDArray[np.float32],
    y: NDArray[np.int64],
    n_before: int,
    n_new: int,
    seed: int,
    fitted: Callable[[NDArray[np.float32], NDArray[np.int64]], Hasher],
    step: Callable[[int, str], None],
) -> tuple[float, float]:
    """Return the mAP of both kinds of labels, on the same queries and first labels."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    n_queries = min(_QUERIES, len(X) // 5)
    queries, database = order[:n_queries], order[n_queries:]
    known = np.full(len(database), -1)
    known[:n_before] = y[database[:n_before]]
    free = np.flatnonzero(known < 0)

    def score(new: NDArray[np.intp]) -> float:
        labels = known.copy()
        labels[new] = y[database[new]]
        hasher = fitted(X[database], labels)
        return map_of_codes(
            hasher.encode(X[queries]), y[queries], hasher.encode(X[database]), y[database]
        )

    step(0, "chosen")
    chosen = score(label_next(X[database], known, n_new))
    step(1, "random")
    return chosen, score(rng.choice(free, n_new, replace=False))
