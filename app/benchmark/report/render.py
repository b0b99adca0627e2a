"""A benchmark as one HTML page that needs nothing else: no host, no script, no font."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from importlib.resources import files
from itertools import groupby
from string import Template
from typing import Any

from app.benchmark.report.pictures import class_name, sheet
from app.benchmark.report.plots import plots
from app.benchmark.report.published import SOURCE, published
from app.benchmark.splits import UNSEEN
from app.datasets.dataset import Dataset

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
"""What a browser may load for the page, as a Content-Security-Policy."""

Row = dict[str, Any]
Format = Callable[[Any], str]


def render(result: dict[str, Any], dataset: Dataset) -> str:
    """The page of a result; the same result and dataset give the same page.

    Parameters
    ----------
    result : dict
        As `run` returns it.
    dataset : Dataset
        What was measured on, for the names of classes and, where it has images, the pictures.

    Returns
    -------
    str
        HTML. All that comes from the result and the dataset is escaped.
    """
    rows, n_seeds = _rows(result), len(result["protocol"]["seeds"])
    measured = [row for row in rows if "error" not in row]
    pictures, neighbours = sheet(result, dataset)
    title = f"Binary codes on {result['dataset']['name']}"
    body = (
        f"<h1>{escape(title)}</h1>{_protocol(result, dataset)}"
        f"<section><h2>All figures</h2>{_table(rows)}{_notes(rows, n_seeds)}</section>"
        f'<section><h2>Plots</h2><div class="plots">{plots(measured, n_seeds)}</div></section>'
        f"{neighbours}"
    )
    page = Template(files("app.benchmark.report").joinpath("report.html").read_text("utf-8"))
    return page.substitute(policy=POLICY, title=escape(title), pictures=pictures, body=body)


def _protocol(result: dict[str, Any], dataset: Dataset) -> str:
    """Who was asked for, among whom, and what was known of them, in plain sentences."""
    protocol, sizes = result["protocol"], result["dataset"]
    seeds = protocol["seeds"]
    unseen = protocol["name"] == UNSEEN
    said = (
        f"{sizes['items']:,} items in {sizes['classes']} classes, as descriptors of dimension "
        f"{sizes['dimension']}. Under the protocol {protocol['name']}, from "
        f"{'seed' if len(seeds) == 1 else 'each of the seeds'} {_series(seeds)}, "
        f"{protocol['queries_per_class']} items of each {'unseen ' * unseen}class are queries "
        f"({sizes['queries']:,} in all) and {sizes['database']:,} items are the database, where "
        f"{protocol['labels_per_class']} of each {'other ' * unseen}class carry a label; "
        "no query is seen in fit."
    )
    more = []
    if unseen:
        names = (
            f"{_series([class_name(dataset, label) for label in labels])} (seed {seed})"
            for seed, labels in zip(seeds, protocol["unseen"], strict=True)
        )
        more.append(f"Unseen, without a label in the database: {'; '.join(names)}.")
    if "scaled" in protocol:
        asked = protocol["asked"]
        more.append(
            f"Scaled down from {asked['queries_per_class']} queries and "
            f"{asked['labels_per_class']} labels a class: {protocol['scaled']}."
        )
    return f"<p>{escape(said)}</p>" + "".join(f"<p class='note'>{escape(m)}</p>" for m in more)


def _series(values: list[Any]) -> str:
    *head, last = map(str, values)
    return f"{', '.join(head)} and {last}" if head else last


def _percent(digits: int) -> Format:
    return lambda share: f"{100 * share:.{digits}f}"


def _interval(ends: list[float]) -> str:
    return "&ndash;".join(f"{100 * end:.2f}" for end in ends)


# Heading, key in the row, format, meaning.
_COLUMNS: tuple[tuple[str, str, Format, str], ...] = (
    ("mAP %", "map", _percent(2), "mean average precision over the whole ranking"),
    ("± seeds", "map_spread", _percent(2), "standard deviation of mAP over seeds"),
    ("95 % interval", "map_interval", _interval, "of mAP, by resampling queries"),
    ("published", "published", "{:.2f}".format, "mAP in the literature"),
    (
        "asym",
        "map_asymmetric",
        _percent(2),
        "mAP where the query is not rounded to bits, items are: asymmetric distance",
    ),
    ("P@100", "precision_100", _percent(1), "precision among the first 100"),
    ("P@1000", "precision_1000", _percent(1), "precision among the first 1000"),
    ("P r≤2", "precision_radius_2", _percent(1), "precision within Hamming radius 2"),
    ("R r≤2", "recall_radius_2", _percent(1), "recall within Hamming radius 2"),
    ("none r≤2", "empty_radius_2", _percent(1), "share of queries that find nothing there"),
    (
        "NN@100",
        "recall_neighbours_100",
        _percent(1),
        "share of the 100 nearest by Euclidean distance that are among the first 100",
    ),
    ("fit s", "fit_seconds", "{:.2f}".format, "seconds to fit"),
    ("encode s", "encode_seconds", "{:.2f}".format, "seconds to encode the database"),
    ("bytes", "bytes_per_item", "{:,.0f}".format, "an item"),
)


def _rows(result: dict[str, Any]) -> list[Row]:
    """The rows, each with its published figure if there is one."""
    known = published(result)
    return [
        row | {"published": known.get(row["method"], {}).get(row["n_bits"])}
        for row in result["results"]
    ]


def _table(rows: list[Row]) -> str:
    columns = _shown(rows)
    heads = "".join(
        f'<th scope="col" title="{escape(meaning)}">{heading}</th>'
        for heading, _, _, meaning in columns
    )
    best = _best(rows)
    bodies = "".join(
        f"<tbody>{''.join(_row(row, columns, best) for row in group)}</tbody>"
        for _, group in groupby(rows, key=lambda row: row["method"])
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="All figures"><table>'
        f'<thead><tr><th scope="col">method, bits</th>{heads}</tr></thead>{bodies}</table></div>'
    )


def _shown(rows: list[Row]) -> list[tuple[str, str, Format, str]]:
    """The columns that any row has a figure in."""
    return [column for column in _COLUMNS if any(_has(row, column[1]) for row in rows)]


def _has(row: Row, key: str) -> bool:
    value = row.get(key)
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _best(rows: list[Row]) -> dict[int, str]:
    """The best mAP at each code length, as it is printed: methods that look equal are equal."""
    best: dict[int, float] = {}
    for row in rows:
        if row["n_bits"] is not None and "error" not in row:
            best[row["n_bits"]] = max(best.get(row["n_bits"], 0.0), row["map"])
    return {n_bits: _percent(2)(value) for n_bits, value in best.items()}


def _row(row: Row, columns: list[tuple[str, str, Format, str]], best: dict[int, str]) -> str:
    bits = "" if row["n_bits"] is None else f"<span>{row['n_bits']}</span>"
    head = f'<th scope="row">{escape(row["method"])}{bits}</th>'
    if "error" in row:
        cells = f'<td class="error" colspan="{len(columns)}">{escape(row["error"])}</td>'
    else:
        cells = "".join(_cell(row, key, form, best) for _, key, form, _ in columns)
    return f"<tr>{head}{cells}</tr>"


def _cell(row: Row, key: str, form: Format, best: dict[int, str]) -> str:
    if not _has(row, key):
        return '<td class="empty">&ndash;</td>'
    text = form(row[key])
    if key == "map" and text == best.get(row["n_bits"]):
        return f'<td class="best" title="best at {row["n_bits"]} bits">{text}</td>'
    return f"<td>{text}</td>"


def _notes(rows: list[Row], n_seeds: int) -> str:
    """What the columns mean, whose published figures they are, and who was left out."""
    columns = _shown(rows)
    meanings = "".join(
        f"<div><dt>{heading}</dt><dd>{escape(meaning)}</dd></div>"
        for heading, _, _, meaning in [("★", "", str, "best mAP at its code length"), *columns]
    )
    notes = [
        f"Shares are in %, means over queries{' and seeds' * (n_seeds > 1)}. Distances between "
        "codes tie: figures are expectations over every order of the ties."
    ]
    if any(key == "published" for _, key, _, _ in columns):
        notes.append(f"Published: {SOURCE}.")
    if left_out := max(row.get("queries_without_relevant", 0) for row in rows):
        notes.append(f"{left_out:,} queries have no relevant item and are left out of mAP.")
    return f'<dl class="note">{meanings}</dl>' + "".join(
        f'<p class="note">{escape(note)}</p>' for note in notes
    )
