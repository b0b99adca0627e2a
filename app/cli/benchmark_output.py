"""The result of a benchmark as tables in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from app.benchmark.neighbours.protocol import in_words
from app.benchmark.results import interval_note, tuning_note
from app.benchmark.rows import NEIGHBOURS
from app.benchmark.splits import class_notes

Format = Callable[[Any], str]

# Narrower than this, Rich would fold figures into unreadable columns. The tables take 80.
_MIN_WIDTH = 130


def _number(decimals: int, factor: int = 1) -> Format:
    return lambda value: f"{factor * value:,.{decimals}f}"


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
_RECALL_LEGEND = (
    "bytes: per item, of codes and factors; recall: share of the k true neighbours that are among "
    "the first k; r. N: the same after the first N are ranked again by their descriptors; q/s: "
    "queries per second of a scan by one thread."
)
_LEGEND = (
    "difference: mAP less that of the best method of the same length, or of --reference, with its "
    "95 % interval; asym: mAP with queries that are not rounded to bits; @5000: mAP of the first "
    "5,000; P, R: precision and recall, %; r≤2: within Hamming radius 2, where a query that finds "
    "nothing (none, %) counts as a precision of 0; NN@100: share of the first 100 that are among "
    "the true 100 nearest."
)


def _recall(rerank: list[int]) -> tuple[tuple[str, str, Format], ...]:
    """Return the columns of a benchmark of neighbours."""
    return (
        ("bytes", "bytes_per_item", _number(0)),
        ("recall %", "recall", _number(2, 100)),
        ("± seeds", "recall_spread", _number(2, 100)),
        ("95 %", "recall_interval", _interval),
        *((f"r. {n}", f"recall_rerank_{n}", _number(2, 100)) for n in rerank),
        ("q/s", "queries_per_second", _number(0)),
        ("fit s", "fit_seconds", _number(2)),
        ("ranked by", "ranking", str),
    )


def print_result(result: dict[str, Any]) -> None:
    """Print a result as tables on stdout."""
    if result["protocol"]["name"] == NEIGHBOURS:
        _print_recall(result)
        return
    protocol, dataset = result["protocol"], result["dataset"]
    seeds = ", ".join(map(str, protocol["seeds"]))
    console = _console()
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
    _print_missing(result, console)
    if "scaled" in protocol:
        console.print(
            f"Scaled to {protocol['queries_per_class']} queries and "
            f"{protocol['labels_per_class']} labels per class: {protocol['scaled']}."
        )
    for note in class_notes(protocol):
        console.print(note)


def _print_recall(result: dict[str, Any]) -> None:
    protocol, dataset = result["protocol"], result["dataset"]
    console = _console()
    console.print(f"{dataset['name']}, {in_words(protocol, dataset)}")
    console.print(_table(result["results"], _recall(protocol["rerank"])), "", sep="\n")
    console.print(f"{interval_note(len(protocol['seeds']))} {_RECALL_LEGEND}", style="dim")
    _print_missing(result, console)


def _print_missing(result: dict[str, Any], console: Console) -> None:
    for row in result["results"]:
        if "error" in row:
            bits = "" if row["n_bits"] is None else f", {row['n_bits']} bits"
            console.print(f"{row['method']}{bits}: {row['error']}", style="red")
    if "interrupted" in result:
        console.print(result["interrupted"], style="red")


def _console() -> Console:
    # Plain text only: names and messages may hold brackets or colons, which are not markup.
    return Console(
        width=max(Console().width, _MIN_WIDTH), soft_wrap=True, markup=False, emoji=False
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
