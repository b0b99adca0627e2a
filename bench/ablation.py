"""Measure what each part of the recipe of `net-2` contributes.

Run `python -m bench.ablation cifar10.npz --seeds 0,1,2 --teacher-steps 1250 --steps 1250`. Each row
leaves out one part. A row of a seed takes minutes, so the rows are printed as they are measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from app.benchmark.averages import mean
from app.benchmark.rank import rank_codes
from app.benchmark.splits import Protocol, Split, split
from app.benchmark.tied_rankings import harmonic_numbers
from app.datasets.dataset import Dataset
from app.datasets.npz import read_npz
from hashing import make_hasher
from hashing.nets import self_training


class Variant(NamedTuple):
    """The recipe without one of its parts."""

    name: str
    dataset: Callable[[Dataset], Dataset] = lambda dataset: dataset
    noise: float | None = None
    patched: Callable[[], AbstractContextManager[Any]] = nullcontext


def one_classifier() -> AbstractContextManager[Any]:
    """Leave the teacher only its first classifier, which sees descriptors."""
    members = self_training._members
    return patch.object(self_training, "_members", lambda *args: members(*args)[:1])


def one_round() -> AbstractContextManager[Any]:
    """Train the classifiers on the first guess throughout: no self-training."""
    return patch.object(self_training, "ROUNDS", 1)


VARIANTS = (
    Variant("the recipe"),
    Variant("no privileged features", Dataset.without_privileged),
    Variant("no self-training: the first guess stays the target", patched=one_round),
    Variant("no mirror images", lambda d: replace(d, mirror=None, privileged_mirror=None)),
    Variant("one classifier, of descriptors", patched=one_classifier),
    Variant("noise 0.3", noise=0.3),
)


def measure(
    variant: Variant, dataset: Dataset, part: Split, seed: int, n_bits: int, **steps: int
) -> float:
    """Return the mAP of `net-2` on a split."""
    dataset = variant.dataset(dataset)
    parameters = dataset.parameters("net-2") | steps
    net = make_hasher("net-2", n_bits=n_bits, random_state=seed, noise=variant.noise, **parameters)
    privileged = dataset.privileged
    with variant.patched():
        net.fit(
            dataset.descriptors[part.training],
            part.y,
            None if privileged is None else privileged[part.training],
        )
    queries, database = dataset.descriptors[part.queries], dataset.descriptors[part.database]
    rankings, _ = rank_codes(
        net.encode(queries),
        dataset.labels[part.queries],
        net.encode(database),
        dataset.labels[part.database],
    )
    return mean(rankings.average_precision(harmonic_numbers(len(database))))


def main() -> None:
    """Print the mAP of each variant for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("dataset", type=Path, help="an .npz file with privileged features")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--bits", type=int, default=48)
    parser.add_argument("--teacher-steps", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=5000)
    given = parser.parse_args()
    dataset = read_npz(given.dataset, given.dataset.stem)
    for seed in map(int, given.seeds.split(",")):
        part = split(dataset.labels, Protocol(), seed)
        for variant in VARIANTS:
            precision = measure(
                variant,
                dataset,
                part,
                seed,
                given.bits,
                teacher_steps=given.teacher_steps,
                steps=given.steps,
            )
            print(f"seed {seed}: {variant.name}: {100 * precision:.2f}", flush=True)


if __name__ == "__main__":
    main()
