"""The result of a benchmark as tables in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from app.benchmark.results import interval_note, tuning_note

Format = Callable[[Any], str]

# Narrower than this, Rich would fold figures into unreadable columns. The tables take 80.
_MIN_WIDTH = 130


def _number(decimals: int, factor: int = 1) -> Format:
    return lambda value: f"{factor * value:.{decimals}f}"


def _interval(ends: list[float]) -> str:
    return " ".join(f"{100 * end:.1f}" for end in ends)


def _difference(difference: dict[str, Any]) -> str:
    low, high = (f"{100 * end:+.1f}" for end in difference["interval"])
    return f"{100 * difference['mean']:+.1f} ({low} {high})"


_PERCENT = _number(1, 100)
# Heading, key in a result's row, format. One table with all of it would be too wide.
_QUALITY: tuple[tuple[str, str, Format], ...] = (
    ("mAP %", "map", _number(2, 100)),
    ("± seeds", "map_spread", _number(2, 100)),
    ("95 %", "map_interval", _interval),
    ("difference", "difference", _difference),
    ("asym", "map_asymmetric", _number(2, 100)),
    ("@5000", "map_5000", _number(2, 100)),
)
_DETAILS: tuple[tuple[str, str, Format], ...] = (
    ("P@100", "precision_100", _PERCENT),
    ("P@1000", "precision_1000", _PERCENT),
    ("P r≤2", "precision_radius_2", _PERCENT),
    ("R r≤2", "recall_radius_2", _PERCENT),
    ("none", "empty_radius_2", _PERCENT),
    ("NN@100", "recall_neighbours_100", _PERCENT),
    ("fit s", "fit_seconds", _number(2)),
    ("enc s", "encode_seconds", _number(2)),
    ("bytes", "bytes_per_item", _number(0)),
)
_LEGEND = (
    "difference: mAP less that of the best method of the same length, or of --reference, with its "
    "95 % interval; asym: mAP with queries that are not rounded to bits; @5000: mAP of the first "
    "5,000; P, R: precision and recall, %; r≤2: within Hamming radius 2, where a query that finds "
    "nothing (none, %) counts as a precision of 0; NN@100: share of the first 100 that are among "
    "the true 100 nearest."
)


def print_result(result: dict[str, Any]) -> None:
    """Print a result as tables on stdout."""
    protocol, dataset = result["protocol"], result["dataset"]
    seeds = ", ".join(map(str, protocol["seeds"]))
    # Plain text only: names and messages may hold brackets or colons, which are not markup.
    console = Console(
        width=max(Console().width, _MIN_WIDTH), soft_wrap=True, markup=False, emoji=False
    )
    console.print(
        f"{dataset['name']}, {protocol['name']}: {dataset['queries']:,} queries, "
        f"{dataset['database']:,} in the database, {protocol['labels_per_class']} labels per "
        f"class, seed {seeds}"
    )
    for columns in (_QUALITY, _DETAILS):
        console.print(_table(result["results"], columns), "", sep="\n")
    console.print(f"{interval_note(len(protocol['seeds']))} {_LEGEND}", style="dim")
    if tuned := tuning_note(result["results"]):
        console.print(tuned)
    for row in result["results"]:
        if "error" in row:
            console.print(f"{row['method']}, {row['n_bits']} bits: {row['error']}", style="red")
    if "interrupted" in result:
        console.print(result["interrupted"], style="red")
    if "scaled" in protocol:
        console.print(
            f"Scaled to {protocol['queries_per_class']} queries and "
            f"{protocol['labels_per_class']} labels per class: {protocol['scaled']}."
        )


def _table(rows: list[dict[str, Any]], columns: tuple[tuple[str, str, Format], ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("method", no_wrap=True)
    table.add_column("bits", justify="right")
    shown = [each for each in columns if any(row.get(each[1]) is not None for row in rows)]
    for heading, *_ in shown:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = ["" if row.get(key) is None else form(row[key]) for _, key, form in shown]
        table.add_row(row["method"], str(row["n_bits"] or ""), *cells)
    return table
