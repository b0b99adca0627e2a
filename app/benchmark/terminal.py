"""A benchmark in a terminal: progress while it runs, a table when it is done."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.benchmark.datasets import Dataset
from app.benchmark.protocol import Retrieval
from app.benchmark.run import Row, run


def run_with_progress(dataset: Dataset, table: list[Row], protocol: Retrieval) -> dict[str, Any]:
    """`run`, with a bar on stderr."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("starting", total=len(table))

        def progress(done: int, of: int, now: str) -> None:
            bar.update(task, completed=done, description=now)

        return run(dataset, table, protocol, progress)


def show(result: dict[str, Any]) -> None:
    """Print a result as a table on stdout."""
    protocol, dataset = result["protocol"], result["dataset"]
    table = Table(
        title=f"{dataset['name']}: {dataset['queries']:,} queries, {dataset['database']:,} in the "
        f"database, {protocol['labels_per_class']} labels a class, seed {protocol['seed']}"
    )
    columns = ("method", "bits", "mAP %", "fit s", "encode s", "bytes an item")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    for row in result["results"]:
        table.add_row(
            row["method"],
            str(row["n_bits"] or ""),
            f"{100 * row['map']:.2f}",
            f"{row['fit_seconds']:.2f}",
            f"{row['encode_seconds']:.2f}",
            str(row["bytes_per_item"]),
        )
    console = Console()
    console.print(table)
    if "scaled" in protocol:
        console.print(
            f"Scaled to {protocol['queries_per_class']} queries and "
            f"{protocol['labels_per_class']} labels a class: {protocol['scaled']}."
        )
