"""What labels that `label-next` chooses gain over as many random ones per class.

Half of the labels are known before, at random; the other half is chosen, or random too. It is not
part of `make bench`, because it has no bound. Nets take minutes a draw; with fewer steps, less:

    .venv/bin/python -m bench.label_gain cifar10 --method ksh --per-class 20 50 100
    .venv/bin/python -m bench.label_gain cifar10 --method net-2 --teacher-steps 300 --steps 150 \
        --per-class 50 --seeds 0

Each line of the output is one draw as JSON; the last lines have the means.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from app.datasets.catalog import load_dataset
from app.datasets.dataset import Dataset
from app.explain.gain import SEEDS, measure_gain
from app.service.settings import Settings
from hashing.theory.samples import Estimate

# Options of this command that are parameters of methods.
_PARAMS = ("teacher_steps", "steps", "hidden")


def main() -> None:
    """Measure and print each draw, and then the means."""
    options = _options()
    dataset = load_dataset(options.dataset, Settings().data_dir)
    params = {name: getattr(options, name) for name in _PARAMS if getattr(options, name)}
    for per_class in options.per_class:
        gains = []
        for seed in options.seeds:
            start = time.process_time()
            chosen, random = _draw(dataset, per_class, options.method, options.bits, params, seed)
            gains.append(chosen - random)
            _print(
                per_class=per_class,
                seed=seed,
                method=options.method,
                n_bits=options.bits,
                **params,
                chosen=round(chosen, 4),
                random=round(random, 4),
                processor_seconds=round(time.process_time() - start, 1),
            )
        difference = Estimate.of_mean(gains)
        interval = None if len(gains) < 2 else [difference.low, difference.high]
        _print(per_class=per_class, difference=difference.value, interval=interval)


def _draw(
    dataset: Dataset, per_class: int, method: str, n_bits: int, params: dict[str, int], seed: int
) -> tuple[float, float]:
    n_labels = per_class * len(np.unique(dataset.labels[dataset.labels >= 0]))
    gain = measure_gain(
        dataset,
        n_labels - n_labels // 2,
        method=method,
        n_bits=n_bits,
        params=params,
        n_before=n_labels // 2,
        seeds=[seed],
    )
    return gain.chosen.value, gain.random.value


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset", help="a name, or the path of a file")
    parser.add_argument("--method", default="ksh")
    parser.add_argument("--bits", type=int, default=24)
    parser.add_argument("--per-class", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[*SEEDS])
    for name in _PARAMS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    return parser.parse_args()


def _print(**line: object) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
