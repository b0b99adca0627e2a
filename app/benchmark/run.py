"""The benchmark: methods × code lengths, over seeds, on a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.benchmark.measure import SHEET, Measured, Row, Task, curve_ranks, measure
from app.benchmark.metrics import bootstrap_interval, mean
from app.benchmark.splits import Protocol, Split, describe, split
from app.datasets.dataset import Dataset
from hashing import InvalidInput
from hashing.progress import Progress, followed


def run(
    dataset: Dataset,
    table: Sequence[Row],
    protocol: Protocol,
    seeds: Sequence[int] = (0,),
    progress: Progress = lambda done, of, now: None,
) -> dict[str, Any]:
    """Measure every row on the split of every seed.

    A row that cannot be measured, because its method cannot give that many bits or lacks labels,
    has `error` in place of figures. `progress` is told of rows, and in words of the steps of a fit.

    Returns
    -------
    dict
        JSON: `protocol` as it was carried out; `dataset`; `results`, one a row, with `map` the
        mean over seeds in 0 to 1, `map_spread` their standard deviation, `map_interval` the
        bootstrap interval over queries, `maps` one a seed, and the figures of `Measured`, means
        over seeds; `sheet`, the first neighbours of a query of each class under the first seed.

    Raises
    ------
    InvalidInput
        The protocol does not fit the dataset, or no row could be measured.
    """
    if not seeds:
        raise InvalidInput("a benchmark needs at least one seed")
    report = describe(protocol, dataset.labels, list(seeds))
    splits = [split(dataset.labels, protocol, seed) for seed in seeds]
    found: dict[Row, list[Measured]] = {row: [] for row in table}
    errors: dict[Row, str] = {}
    done, of = 0, len(table) * len(seeds)
    for seed, parts in zip(seeds, splits, strict=True):
        progress(done, of, f"seed {seed}: true neighbours")
        task = Task(dataset, parts, seed)
        for row in table:
            now = f"seed {seed}: {row}"
            progress(done, of, now)
            try:
                with followed(_within(progress, done, of, now)):
                    found[row].append(measure(row, task))
            except InvalidInput as error:
                errors[row] = str(error)
            done += 1
    if len(errors) == len(table):
        raise InvalidInput(f"nothing could be measured; {table[0]}: {errors[table[0]]}")
    progress(done, of, "done")
    return {
        "protocol": report | {"unseen": [parts.unseen for parts in splits]},
        "dataset": _dataset(dataset, splits[0]),
        "results": [_result(row, found[row], errors.get(row)) for row in table],
        "curve_ranks": curve_ranks(len(splits[0].database)).tolist(),
        "sheet": _sheet(
            dataset, splits[0], {row: found[row] for row in table if row not in errors}
        ),
    }


def _within(progress: Progress, done: int, of: int, row: str) -> Progress:
    """The progress of a row's fit, as what is done now of the benchmark."""
    return lambda step, steps, now: progress(done, of, f"{row}: {now}, {step:,} of {steps:,} steps")


def _dataset(dataset: Dataset, parts: Split) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "items": len(dataset),
        "dimension": dataset.descriptors.shape[1],
        "classes": len(np.unique(dataset.labels[dataset.labels >= 0])),
        "queries": len(parts.queries),
        "database": len(parts.database),
    }


def _result(row: Row, measured: list[Measured], error: str | None) -> dict[str, Any]:
    head = {"method": row.method, "n_bits": row.n_bits}
    if error is not None:
        return head | {"error": error}
    precisions = np.concatenate([m.precisions for m in measured])
    maps = [mean(m.precisions) for m in measured]
    return head | {
        "map": float(np.mean(maps)),
        "map_spread": float(np.std(maps)) if len(maps) > 1 else None,
        "map_interval": list(bootstrap_interval(precisions, seed=0)),
        "maps": maps,
        "queries": int(np.count_nonzero(~np.isnan(precisions))),
        "queries_without_relevant": int(np.count_nonzero(np.isnan(precisions))),
        **_means([m.figures for m in measured]),
        "curve": np.mean([m.curve for m in measured], axis=0).round(6).tolist(),
    }


def _means(figures: list[dict[str, float | None]]) -> dict[str, float | None]:
    return {
        name: None if value is None else float(np.mean([f[name] or 0.0 for f in figures]))
        for name, value in figures[0].items()
    }


def _sheet(dataset: Dataset, parts: Split, found: dict[Row, list[Measured]]) -> dict[str, Any]:
    """Positions in the dataset, so that a report can show the images."""
    first = np.unique(dataset.labels[parts.queries], return_index=True)[1][:SHEET]
    return {
        "queries": parts.queries[first].tolist(),
        "rows": [
            {
                "method": row.method,
                "n_bits": row.n_bits,
                "neighbours": parts.database[measured[0].sheet].tolist(),
            }
            for row, measured in found.items()
        ],
    }
