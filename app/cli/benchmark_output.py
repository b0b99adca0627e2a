"""The result of a benchmark as a table in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

# Narrower than this, Rich would fold figures into unreadable columns: the terminal wraps lines.
_MIN_WIDTH = 130
# Heading, key in a result's row, factor, decimals.
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


def print_result(result: dict[str, Any]) -> None:
    """Print a result as a table on stdout."""
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
    console.print(_table(result["results"]))
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
            f"{protocol['labels_per_class']} labels per class: {protocol['scaled']}."
        )


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table()
    table.add_column("method", no_wrap=True)
    table.add_column("bits", justify="right")
    columns = [column for column in _COLUMNS if any(row.get(column[1]) is not None for row in rows)]
    for heading, *_ in columns:
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [
            "" if row.get(key) is None else f"{row[key] * factor:.{decimals}f}"
            for _, key, factor, decimals in columns
        ]
        table.add_row(row["method"], str(row["n_bits"] or ""), *cells)
    return table
