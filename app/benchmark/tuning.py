"""Choose parameters of a method on a part of the labels that `fit` sees, never on queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.benchmark.averages import mean
from app.benchmark.rank import rank_codes
from app.benchmark.rows import Row
from app.benchmark.tied_rankings import Reals, TiedRankings, harmonic_numbers
from bitcodes import Codes
from hashing import InvalidInput, make_hasher
from hashing.labels import Labels, class_sizes, has_class

Params = dict[str, Any]

GRIDS: dict[str, Sequence[Params]] = {
    "lsh": [{"scale": False}, {"scale": True}],
    "random-net-1": [{"scale": False}, {"scale": True}],
    "random-net-2": [{"scale": False}, {"scale": True}],
    "sign": [{"center": True}, {"center": False}],
    "agh": [{"n_anchors": m, "n_nearest": s} for m in (300, 100, 1000) for s in (5, 2)],
    "diffhash": [*({"variant": "dif", "alpha": a} for a in (1.0, 0.3, 3.0)), {"variant": "lda"}],
    "ksh": [{"n_anchors": m} for m in (300, 100, 1000)],
    "sdh": [{"n_anchors": m, "nu": nu} for m in (1000, 300) for nu in (1e-5, 1e-2)],
    "siamese-1": [{"margin": m, "noise": noise} for m in (1.2, 1.0) for noise in (0.7, 0.4)],
    "siamese-2": [{"margin": m, "noise": noise} for m in (1.2, 1.0) for noise in (0.7, 0.4)],
}
"""What is tried for each method, the defaults first. Methods without a grid keep their defaults."""

HELD_OUT = 4
"""The labels are split into this many parts, and one is held out of training for comparisons."""


def tune(row: Row, X: NDArray[Any], y: Labels, seed: int, given: Mapping[str, Any]) -> Params:
    """Return the parameters of a method's grid that rank held-out labelled items best.

    A quarter of the labelled items of each class is held out. Each candidate is fitted to all
    other items, and judged by the mAP of every held-out item as a query among the others.

    Parameters
    ----------
    row : Row
    X : (n, d)
        What `fit` sees.
    y : (n,) int64 or (n, c) bool
        The labels that it sees.
    seed : int
        Of the held-out items and of the fits.
    given : mapping
        Parameters that are not chosen here.

    Returns
    -------
    dict
        The first of the best; empty for a method without a grid, and if no candidate can be
        fitted.

    Raises
    ------
    InvalidInput
        No class has enough labels.
    """
    if row.hasher not in GRIDS:
        return {}
    held_out = hold_out(y, seed)
    fixed = {"n_bits": row.n_bits, "random_state": seed, **given}
    best: tuple[float, Params] = (-1.0, {})
    for params in GRIDS[row.hasher]:
        hasher = make_hasher(row.hasher, **fixed, **params)
        try:
            codes = hasher.fit(X[~held_out], y[~held_out]).encode(X[held_out])
        except InvalidInput:
            continue  # For instance, the method cannot make this many bits from these anchors.
        quality = mean(precision_among_others(codes, y[held_out]))
        if quality > best[0]:
            best = (quality, params)
    return best[1]


def hold_out(y: Labels, seed: int) -> NDArray[np.bool_]:
    """Return which items are held out: a quarter of each class, at least two.

    Raises
    ------
    InvalidInput
        No class has four labels or more.
    """
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(y), bool)
    for label, size in class_sizes(y).items():
        members = np.flatnonzero(has_class(y, label) & ~held_out)
        # Of several labels per item, those held out for another class count.
        n = max(2, size // HELD_OUT) - (size - len(members))
        if size >= HELD_OUT and n > 0:
            held_out[rng.choice(members, n, replace=False)] = True
    if not held_out.any():
        raise InvalidInput(f"tuning needs a class with at least {HELD_OUT} labels")
    return held_out


def precision_among_others(codes: Codes, labels: Labels) -> Reals:
    """Return the average precision of each item as a query among all others."""
    rankings, _ = rank_codes(codes, labels, codes, labels)
    # Each item is relevant to itself, at distance 0, because all have labels.
    itself = np.zeros_like(rankings.items)
    itself[:, 0] = 1
    others = TiedRankings(rankings.items - itself, rankings.relevant - itself)
    return others.average_precision(harmonic_numbers(len(codes)))
