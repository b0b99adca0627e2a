"""The nets next to `ksh` and `sdh` on small data: few labels, with and without other rows.

    .venv/bin/python -m bench.few_labels --per-class 20 50

The digits have GIST as descriptors and their pixels as privileged features. The clusters have 30
dimensions; their privileged features are the same points with a quarter of the noise. It has no
bound, so it is not part of `make bench`. Each line of the output is one method on one draw as JSON;
the last lines have the means over the seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from app.benchmark.averages import mean
from app.benchmark.rank import rank_codes
from app.benchmark.splits import Protocol, split
from app.benchmark.tied_rankings import harmonic_numbers
from app.datasets.dataset import Dataset
from app.datasets.digits import load_digits, read_digits
from hashing import make_hasher

QUERIES_PER_CLASS = 40
METHODS = ("ksh", "sdh", "net-2", "net-2+privileged")


def digits() -> Dataset:
    """Return the digits, with their pixels as privileged features."""
    images, _ = read_digits()
    pixels = images.reshape(len(images), -1).astype(np.float32)
    return replace(load_digits(), privileged=pixels)


def clusters() -> Dataset:
    """Return eight classes of four clusters each, in 30 dimensions."""
    rng = np.random.default_rng(0)
    labels = np.arange(2400) % 8
    centres = rng.normal(size=(8, 4, 30))[labels, rng.integers(0, 4, 2400)]
    noise = rng.normal(0, 0.9, (2400, 30))
    return Dataset(
        name="clusters",
        descriptors=(centres + noise).astype(np.float32),
        labels=labels,
        ids=np.arange(2400).astype(np.str_),
        privileged=centres + noise / 4,
    )


def measure(
    dataset: Dataset, method: str, per_class: int, seed: int, *, only_labelled: bool, **net: Any
) -> float:
    """Return the mAP of codes of 24 bits, learned from labels of `per_class` items per class."""
    part = split(dataset.labels, Protocol("retrieval-59k", QUERIES_PER_CLASS, per_class), seed)
    rows = part.y >= 0 if only_labelled else np.ones(len(part.y), bool)
    X, y = dataset.descriptors[part.training][rows], part.y[rows]
    name, _, privileged = method.partition("+")
    parameters = net if name.startswith("net") else {}
    hasher = make_hasher(name, n_bits=24, random_state=seed, **parameters)
    if privileged and dataset.privileged is not None:
        hasher.fit(X, y, dataset.privileged[part.training][rows])
    else:
        hasher.fit(X, y)
    rankings, _ = rank_codes(
        hasher.encode(dataset.descriptors[part.queries]),
        dataset.labels[part.queries],
        hasher.encode(dataset.descriptors[part.database]),
        dataset.labels[part.database],
    )
    return mean(rankings.average_precision(harmonic_numbers(len(part.database))))


def main() -> None:
    """Print the mAP of each method on each draw, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--per-class", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--teacher-steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--hidden", type=int, default=512)
    given = parser.parse_args()
    net = {name: getattr(given, name) for name in ("teacher_steps", "steps", "hidden")}
    found = defaultdict(list)
    for seed, dataset, per_class, only in product(
        given.seeds, (digits(), clusters()), given.per_class, (True, False)
    ):
        for method in METHODS:
            start = time.process_time()
            value = measure(dataset, method, per_class, seed, only_labelled=only, **net)
            rows = "labelled" if only else "all"
            found[dataset.name, per_class, rows, method].append(value)
            about = {"dataset": dataset.name, "per_class": per_class, "rows": rows, "seed": seed}
            seconds = round(time.process_time() - start, 1)
            print(
                json.dumps(about | {"method": method, "map": value, "seconds": seconds}), flush=True
            )
    for (name, per_class, rows, method), values in found.items():
        print(f"{name}, {per_class} per class, {rows} rows, {method}: {100 * np.mean(values):.1f}")


if __name__ == "__main__":
    main()
