"""A benchmark in a terminal: progress while it runs, a table when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.benchmark.measure import Row
from app.benchmark.run import run
from app.benchmark.splits import Protocol
from app.datasets.dataset import Dataset


@contextmanager
def bar(total: int) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on stderr, gone at the end, to be told of progress."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("starting", total=total)
        yield lambda done, of, now: shown.update(task, completed=done, total=of, description=now)


def run_with_progress(
    dataset: Dataset, table: list[Row], protocol: Protocol, seeds: list[int]
) -> dict[str, Any]:
    """`run`, with a bar on stderr."""
    with bar(len(table) * len(seeds)) as progress:
        return run(dataset, table, protocol, seeds, progress)


# Heading, key of the result, factor, decimals.
_COLUMNS = (
    ("mAP %", "map", 100, 2),
    ("± seeds", "map_spread", 100, 2),
    ("asym", "map_asymmetric", 100, 2),
    ("P@100", "precision_100", 100, 1),
    ("P@1000", "precision_1000", 100, 1),
    ("P r≤2", "precision_radius_2", 100, 1),
    ("R r≤2", "recall_radius_2", 100, 1),
    ("none r≤2", "empty_radius_2", 100, 1),
    ("NN@100", "recall_neighbours_100", 100, 1),
    ("fit s", "fit_seconds", 1, 2),
    ("encode s", "encode_seconds", 1, 2),
    ("bytes", "bytes_per_item", 1, 0),
)


def show(result: dict[str, Any]) -> None:
    """Print a result as a table on stdout."""
    protocol, dataset = result["protocol"], result["dataset"]
    seeds = ", ".join(map(str, protocol["seeds"]))
    # Folded columns of figures cannot be read: a narrow terminal wraps whole lines instead.
    console = Console(width=max(Console().width, 130), soft_wrap=True)
    console.print(
        f"{dataset['name']}, {protocol['name']}: {dataset['queries']:,} queries, "
        f"{dataset['database']:,} in the database, {protocol['labels_per_class']} labels a class, "
        f"seed {seeds}"
    )
    table = Table()
    table.add_column("method", no_wrap=True)
    table.add_column("bits", justify="right")
    shown = [
        column
        for column in _COLUMNS
        if any(row.get(column[1]) is not None for row in result["results"])
    ]
    for heading, *_ in shown:
        table.add_column(heading, justify="right")
    for row in result["results"]:
        cells = [
            "" if row.get(key) is None else f"{row[key] * factor:.{digits}f}"
            for _, key, factor, digits in shown
        ]
        table.add_row(row["method"], str(row["n_bits"] or ""), *cells)
    console.print(table)
    console.print(
        "asym: mAP % with queries that are not rounded to bits; P, R: precision and recall, %; "
        "r≤2: within Hamming radius 2, none: queries that find nothing there; NN@100: share of "
        "the true 100 nearest among the first 100.",
        style="dim",
    )
    for row in result["results"]:
        if "error" in row:
            console.print(f"{row['method']}, {row['n_bits']} bits: {row['error']}", style="red")
    if "scaled" in protocol:
        console.print(
            f"Scaled to {protocol['queries_per_class']} queries and "
            f"{protocol['labels_per_class']} labels a class: {protocol['scaled']}."
        )
