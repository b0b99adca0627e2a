"""Run a benchmark: every row on the split of every seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from app.benchmark.measure import Measured, Task, curve_ranks, measure, sheet_queries
from app.benchmark.results import result_rows
from app.benchmark.rows import Row, check_reference
from app.benchmark.splits import Protocol, Split, describe, split
from app.datasets.dataset import Dataset
from hashing import InvalidInput
from hashing.labels import class_sizes
from hashing.progress import Progress, followed

Figured = TypeVar("Figured")
Result = TypeVar("Result")

_UNMEASURED = "the benchmark was interrupted before this row was measured"


def run(
    dataset: Dataset,
    rows: Sequence[Row],
    protocol: Protocol,
    seeds: Sequence[int] = (0,),
    progress: Progress = lambda done, total, description: None,
    *,
    reference: str | None = None,
    tune: bool = False,
) -> dict[str, Any]:
    """Measure every row on the split of every seed.

    A row that cannot be measured, because its method cannot give that many bits or lacks labels,
    has `error` instead of figures. A KeyboardInterrupt ends the benchmark early: the result then
    has what was measured before.

    Parameters
    ----------
    dataset : Dataset
    rows : sequence of Row
    protocol : Protocol
    seeds : sequence of int
        One split, and one fit of each row, per seed. Repeated seeds count once.
    progress : callable, optional
        Called with the rows done, the rows in all, and a description of the current step.
    reference : str, optional
        The method that the others are compared with; without it the best of each code length.
    tune : bool
        Choose parameters of each method for each seed, on a part of the labels that `fit` sees.

    Returns
    -------
    dict
        JSON:

        - `protocol`: as carried out.
        - `dataset`: name and sizes; `several_labels`, true, if items may have several labels.
        - `results`: one per row, with `map`, the mean over seeds in 0 to 1, `map_spread`, their
          sample standard deviation, `map_interval`, the interval of `map`, `maps`, one per seed,
          `difference` to the `reference`, with its `mean` and `interval` (None for the reference
          itself and for a row without one), `curve`, and the figures of `Measured`, means over
          seeds. With `tune`, `tuned` has the parameters chosen for each seed.
        - `curve_ranks`: the ranks at which each `curve` is measured.
        - `sheet`: for the first seed, a query of each class and its first neighbours.
        - `interrupted`: what is missing; only if the benchmark was interrupted.

    Raises
    ------
    InvalidInput
        There is no seed, the protocol does not fit the dataset, the reference is not among the
        rows, or no row could be measured.
    KeyboardInterrupt
        The benchmark was interrupted before the first row was measured.
    """
    if not seeds:
        raise InvalidInput("a benchmark needs at least one seed")
    # A seed that counts twice would make the intervals too narrow.
    seeds = list(dict.fromkeys(seeds))
    check_reference(reference, rows)
    report = describe(protocol, dataset.targets, seeds, dataset.class_name)
    splits = [split(dataset.targets, protocol, seed) for seed in seeds]

    def prepare(i: int) -> Callable[[Row], Measured]:
        task = Task(dataset, splits[i], seeds[i])
        return lambda row: measure(row, task, search=tune)

    measured, errors, missing = measure_all(rows, seeds, prepare, progress)
    complete = {row: measured[row] for row in rows if row not in errors}
    return {
        "protocol": report | {"unseen": [parts.unseen for parts in splits]},
        "dataset": _dataset(dataset, splits[0]),
        "results": to_the_end(
            lambda: result_rows(
                rows, measured, errors, [each.query_classes for each in splits], reference
            )
        ),
        "curve_ranks": curve_ranks(len(splits[0].database)).tolist(),
        "sheet": _sheet(dataset, splits[0], complete),
        **({} if missing is None else {"interrupted": missing}),
    }


def to_the_end(work: Callable[[], Result]) -> Result:
    """Return what `work` returns; if it is interrupted, begin it once more.

    It is for the seconds after the last row: ending there would lose all rows. A second
    KeyboardInterrupt ends it.
    """
    try:
        return work()
    except KeyboardInterrupt:
        return work()


def measure_all(
    rows: Sequence[Row],
    seeds: Sequence[int],
    prepare: Callable[[int], Callable[[Row], Figured]],
    progress: Progress,
) -> tuple[dict[Row, list[Figured]], dict[Row, str], str | None]:
    """Measure every row for every seed, until it is interrupted.

    Parameters
    ----------
    rows : sequence of Row
    seeds : sequence of int
    prepare : callable
        Given the position of a seed, returns a function that measures a row with this seed.
    progress : callable

    Returns
    -------
    measured : dict
        The figures of each row, one per seed.
    errors : dict
        Why the other rows could not be measured.
    missing : str or None
        What is missing because it was interrupted; None if nothing is.

    Raises
    ------
    InvalidInput
        No row could be measured.
    KeyboardInterrupt
        It was interrupted before the first row was measured.
    """
    measured: dict[Row, list[Figured]] = {row: [] for row in rows}
    errors: dict[Row, str] = {}
    try:
        _measure_seeds(seeds, prepare, progress, measured, errors)
    except KeyboardInterrupt:
        if not any(measured[row] for row in rows if row not in errors):
            raise
        missing = _missing(measured, errors, seeds)
        errors |= {row: _UNMEASURED for row in rows if row not in errors and not measured[row]}
        return measured, errors, missing
    return measured, errors, None


def _measure_seeds(
    seeds: Sequence[int],
    prepare: Callable[[int], Callable[[Row], Figured]],
    progress: Progress,
    measured: dict[Row, list[Figured]],
    errors: dict[Row, str],
) -> None:
    """Add the figures of every row for every seed, and why rows could not be measured."""
    done, total = 0, len(measured) * len(seeds)
    for i, seed in enumerate(seeds):
        progress(done, total, f"seed {seed}: true neighbours")
        measure_row = prepare(i)
        for row in measured:
            description = f"seed {seed}: {row}"
            progress(done, total, description)
            try:
                with followed(_fit_progress(progress, done, total, description)):
                    measured[row].append(measure_row(row))
            except InvalidInput as error:
                errors[row] = str(error)
            done += 1
    if len(errors) == len(measured):
        first = next(iter(measured))
        raise InvalidInput(f"nothing could be measured; {first}: {errors[first]}")
    progress(done, total, "done")


def _missing(
    measured: Mapping[Row, Sequence[object]], errors: dict[Row, str], seeds: Sequence[int]
) -> str | None:
    """Say which rows lack the figures of which seeds; None if none does.

    Rows are measured seed by seed.
    """
    parts = []
    for row, figures in measured.items():
        left = seeds[len(figures) :]
        if left and row not in errors:
            parts.append(f"{row} (seed {', '.join(map(str, left))})")
    if not parts:
        return None
    return f"The benchmark was interrupted. Not measured: {'; '.join(parts)}."


def _fit_progress(progress: Progress, done: int, total: int, row: str) -> Progress:
    """Turn the progress of one row's fit into a description within the benchmark."""
    return lambda step, steps, stage: progress(
        done, total, f"{row}: {stage}, {step:,} of {steps:,} steps"
    )


def _dataset(dataset: Dataset, parts: Split) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "items": len(dataset),
        "dimension": dataset.descriptors.shape[1],
        "classes": len(class_sizes(dataset.targets)),
        "queries": len(parts.queries),
        "database": len(parts.database),
        "training": len(parts.training),
        **({} if dataset.label_sets is None else {"several_labels": True}),
    }


def _sheet(dataset: Dataset, parts: Split, measured: dict[Row, list[Measured]]) -> dict[str, Any]:
    """Positions in the dataset of queries and their neighbours, whose images a report can show."""
    on_sheet = sheet_queries(parts.query_classes)
    return {
        "queries": parts.queries[on_sheet].tolist(),
        "rows": [
            {
                "method": row.method,
                "n_bits": row.n_bits,
                "neighbours": parts.database[seeds[0].sheet].tolist(),
            }
            for row, seeds in measured.items()
        ],
    }
