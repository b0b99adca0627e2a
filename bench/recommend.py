"""How often a recommendation reaches its goal on data that it has not seen, and how long it takes.

`python -m bench.recommend [--cifar FILE] [--items N] [--rounds N] [--all-rounds N]` prints a
row for each draw. In the first `--all-rounds` rounds it also tries every method at every length.
Without the file, other draws take the place of those of CIFAR-10.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.benchmark.averages import mean
from app.benchmark.neighbours.protocol import DISTANCES
from app.benchmark.rank import nearest, rank_by_label, rank_by_neighbours, rank_codes
from app.benchmark.rows import Row
from app.benchmark.tied_rankings import harmonic_numbers
from app.datasets.dataset import Dataset, unlabelled
from app.datasets.digits import load_digits
from app.datasets.files import read_dataset
from app.recommend.data import Data
from app.recommend.goal import Goal
from app.recommend.measure import Measures
from app.recommend.pool import WITHOUT_LABELS, Pool
from app.recommend.run import recommend
from hashing import Hasher
from hashing.methods.rabitq import RaBitQ

ITEMS = 5000
KINDS = 4
"""Draws in a round."""
# The part of each draw that a recommendation never sees, and queries of it that are ranked.
_HELD_OUT = 0.3
_QUERIES = 500


@dataclass(frozen=True)
class Draw:
    """A dataset with a goal, and a part that the recommendation does not see.

    `methods` are those that may take part; None for the default ones.
    """

    name: str
    seen: Dataset
    held_out: Dataset
    goal: Goal
    methods: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a draw.

    `gain` is what the goal compares with its threshold, on the items that were held out. Seconds
    are those of processors, `all_seconds` those of measuring every method at every length with all
    queries; NaN if that was not done.
    """

    draw: Draw
    answer: str
    claimed: bool
    gain: float
    reached: bool
    seconds: float
    wall_seconds: float
    all_seconds: float


def draws(n_items: int = ITEMS, cifar: Path | None = None, rounds: int = 5) -> Iterator[Draw]:
    """Yield `rounds` draws of each of four kinds of data."""
    digits = load_digits()
    images = None if cifar is None else read_dataset(cifar, "cifar10")
    for seed in range(rounds):
        by_label, by_neighbours = Goal(within=2), Goal(recall=0.95)
        goal = by_label if seed % 2 == 0 else by_neighbours
        # Methods that learn from labels reach such a goal easily; others come close to it.
        methods = WITHOUT_LABELS if goal is by_label and seed > 0 else None
        labelled = partial(draw_of, n_items=n_items, goal=goal, seed=seed, methods=methods)
        yield labelled("digits", digits)
        if images is None:
            yield labelled("wide clusters", clusters(n_items, seed, noise=1.3))
        else:
            yield labelled("cifar10", images)
        yield labelled("clusters", clusters(n_items, seed))
        easier = Goal(recall=(0.8, 0.9, 0.95)[seed % 3], rerank=100)
        of_text = replace(easier, distance="cosine")
        yield draw_of("text", text(n_items, seed), n_items, of_text, seed)


def clusters(n: int, seed: int, noise: float = 0.9) -> Dataset:
    """Return 20 Gaussian clusters in 64 dimensions, whose numbers are the labels."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, 64)) / 2
    y = rng.integers(20, size=n)
    X = centres[y] + noise * rng.standard_normal((n, 64))
    return replace(unlabelled("clusters", X.astype(np.float32)), labels=y)


def text(n: int, seed: int, d: int = 256) -> Dataset:
    """Return vectors like embeddings of texts: a decaying spectrum, an offset, length 1."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, d + 1) ** -0.5
    turned = np.linalg.qr(rng.standard_normal((d, d)))[0]
    X = (rng.standard_normal((n, d)) * spectrum) @ turned + 0.3 * rng.standard_normal(d)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return unlabelled("text", X.astype(np.float32))


def run(draw: Draw, *, everything: bool) -> Outcome:
    """Recommend for what is seen of a draw, and measure the encoder on what is not."""
    start, wall = time.process_time(), time.perf_counter()
    # The limit must not decide on a machine that is busy with other work.
    found = recommend(draw.seen, draw.goal, methods=draw.methods, seconds=3600, seed=1)
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    gain = _gain(draw, found.hasher, found.result["goal"]["distance"])
    threshold = draw.goal.threshold
    assert threshold is not None
    return Outcome(
        draw,
        found.result["answer"],
        found.result["reached"],
        gain,
        bool(gain >= threshold),
        seconds,
        wall,
        _try_everything(draw) if everything else float("nan"),
    )


def draw_of(
    name: str,
    dataset: Dataset,
    n_items: int,
    goal: Goal,
    seed: int,
    methods: tuple[str, ...] | None = None,
) -> Draw:
    """Draw items of a dataset, and hold a part of them out."""
    order = np.random.default_rng(1000 + seed).permutation(len(dataset))[:n_items]
    held_out, seen = np.split(order, [int(_HELD_OUT * len(order))])
    return Draw(f"{name} {seed}", _part(dataset, seen), _part(dataset, held_out), goal, methods)


def _part(dataset: Dataset, rows: NDArray[np.intp]) -> Dataset:
    return Dataset(dataset.name, dataset.descriptors[rows], dataset.labels[rows], dataset.ids[rows])


def _gain(draw: Draw, hasher: Hasher, distance: str) -> float:
    """Return the difference of mAP to the descriptors, or the recall, of held-out queries.

    With labels they search other held-out items, and without them the items that were seen.
    """
    unseen, goal, of = draw.held_out, draw.goal, DISTANCES[distance]
    Q, y = unseen.descriptors[:_QUERIES], unseen.labels[:_QUERIES]
    if goal.within is not None:
        n = min(_QUERIES, len(unseen) // 3)
        Q, y = Q[:n], y[:n]
        X, labels = unseen.descriptors[n:], unseen.labels[n:]
    else:
        X, labels = draw.seen.descriptors, draw.seen.labels
    codes, harmonic = hasher.encode(X), harmonic_numbers(len(X))
    near = nearest(Q, X, goal.k, of)
    if isinstance(hasher, RaBitQ):
        metric = hasher.metrics[0]
        found_distances = hasher.estimate(Q, codes, hasher.factors(X, metric), metric)
        blocks = [(slice(0, len(Q)), found_distances)]
        by_label = list(rank_by_label(blocks, y, labels))
        by_near = list(rank_by_neighbours(blocks, near))
    else:
        both = rank_codes(hasher.encode(Q), y, codes, labels, near)
        by_label, by_near = [both[0]], [both[1]]
    if goal.within is None:
        first = np.array([max(goal.k, goal.rerank)])
        found = np.concatenate([one.relevant_in_first(first)[:, 0] for one in by_near])
        return float(np.minimum(found / goal.k, 1).mean())
    raw = rank_by_label(of(Q, X), y, labels)
    values = np.concatenate([one.average_precision(harmonic) for one in by_label])
    return mean(values - np.concatenate([one.average_precision(harmonic) for one in raw]))


def _try_everything(draw: Draw) -> float:
    """Return the seconds that every method at every length takes with all queries."""
    start = time.process_time()
    data = Data(draw.seen, draw.goal, len(draw.seen), 1)
    measures = Measures(data)
    pool = Pool(draw.methods, 512, uses_labels=data.uses_labels)
    for method in pool.methods:
        for n_bits in pool.lengths:
            measures.measure(Row(method, n_bits), len(data.choosing))
    return time.process_time() - start


def main() -> None:
    """Print a row for each draw, and how many reached their goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--all-rounds", type=int, default=5)
    options = parser.parse_args()
    outcomes = []
    for i, draw in enumerate(draws(options.items, options.cifar, options.rounds)):
        one = run(draw, everything=i < KINDS * options.all_rounds)
        outcomes.append(one)
        print(
            f"| {draw.name} | {draw.goal.in_words()} | {one.answer} | {100 * one.gain:+.1f} | "
            f"{'yes' if one.reached else 'no'} | {one.seconds:.1f} | {one.wall_seconds:.1f} | "
            f"{one.all_seconds:.1f} |",
            flush=True,
        )
    print(f"{sum(one.reached for one in outcomes)} of {len(outcomes)} reached")


if __name__ == "__main__":
    main()
