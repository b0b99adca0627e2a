"""Render a benchmark as one HTML page, with the template `report.html`."""

from __future__ import annotations

from typing import Any

from app.benchmark.neighbours.protocol import in_words
from app.benchmark.report import POLICY
from app.benchmark.report.pictures import make_sheet
from app.benchmark.report.plots import plots, recall_plots
from app.benchmark.report.published import SOURCE, published
from app.benchmark.report.table import Row, lines_by_method, recall_columns, shown_columns
from app.benchmark.report.templates import report_template
from app.benchmark.results import interval_note, tuning_note
from app.benchmark.rows import NEIGHBOURS
from app.benchmark.splits import (
    RETRIEVAL,
    UNSEEN,
    UNSEEN_ONLY,
    class_notes,
)
from app.datasets.dataset import Dataset


def render(result: dict[str, Any], dataset: Dataset) -> str:
    """Return the page of a result; the same result and dataset give the same page.

    Parameters
    ----------
    result : dict
        As `run` returns it.
    dataset : Dataset
        The dataset that was measured: it has the names of the classes, and perhaps images.

    Returns
    -------
    str
        HTML. Everything from the result and the dataset is escaped.
    """
    if result["protocol"]["name"] == NEIGHBOURS:
        return _render_recall(result)
    rows = _rows(result)
    columns = shown_columns(rows)
    seeds = result["protocol"]["seeds"]
    measured = [row for row in rows if "error" not in row]
    return report_template("app.benchmark.report").render(
        policy=POLICY,
        title=_title(result),
        main_figure="mAP",
        protocol=_protocol(result, dataset),
        remarks=_remarks(result, dataset),
        columns=columns,
        groups=lines_by_method(rows, columns),
        notes=_notes(rows, result["protocol"]),
        plots=plots(measured, len(seeds), result["curve_ranks"]),
        sheet=make_sheet(result, dataset),
        first_seed=seeds[0],
    )


def _render_recall(result: dict[str, Any]) -> str:
    """Return the page of a benchmark without labels."""
    rows, protocol = result["results"], result["protocol"]
    columns = shown_columns(rows, recall_columns(protocol["rerank"]))
    n_seeds = len(protocol["seeds"])
    measured = [row for row in rows if "error" not in row]
    notes = [
        f"Shares are in %, means over queries{' and seeds' * (n_seeds > 1)}. Distances between "
        "codes tie: figures are expectations over every order of the ties.",
        interval_note(n_seeds),
        "A ★ compares rows of as many bits, which can differ in bytes: the plots show recall by "
        "bytes.",
    ]
    return report_template("app.benchmark.report").render(
        policy=POLICY,
        title=_title(result),
        main_figure="recall",
        protocol=f"{result['dataset']['items']:,} items, as descriptors of dimension "
        f"{result['dataset']['dimension']}. {in_words(protocol, result['dataset'])}.",
        remarks=[result["interrupted"]] if "interrupted" in result else [],
        columns=columns,
        groups=lines_by_method(rows, columns),
        notes=notes,
        plots=recall_plots(measured, n_seeds, protocol),
        sheet=None,
        first_seed=protocol["seeds"][0],
    )


def _title(result: dict[str, Any]) -> str:
    return f"Binary codes on {result['dataset']['name']}"


def _rows(result: dict[str, Any]) -> list[Row]:
    """The rows, each with its published figure if there is one."""
    known = published(result)
    return [
        row | {"published": known.get(row["method"], {}).get(row["n_bits"])}
        for row in result["results"]
    ]


def _protocol(result: dict[str, Any], dataset: Dataset) -> str:
    """Describe in words the queries, the database and the labels."""
    protocol, sizes = result["protocol"], result["dataset"]
    seeds = protocol["seeds"]
    # Items that are drawn for one of their classes count for all of them.
    least = "at least " * sizes.get("several_labels", False)
    per_class = f"{least}{protocol['labels_per_class']} of each"
    database = f"{sizes['database']:,} items"
    if protocol["name"] == UNSEEN_ONLY:
        database += (
            f" of the same classes are the database. fit sees {sizes['training']:,} items of the "
            f"other classes, where {per_class} class carry a label"
        )
    else:
        other = "other " * (protocol["name"] == UNSEEN)
        database += f" are the database, where {per_class} {other}class carry a label"
    unseen = "unseen " * (protocol["name"] != RETRIEVAL)
    return (
        f"{sizes['items']:,} items in {sizes['classes']} classes, as descriptors of dimension "
        f"{sizes['dimension']}. Under the protocol {protocol['name']}, from "
        f"{'seed' if len(seeds) == 1 else 'each of the seeds'} {_series(seeds)}, "
        f"{least}{protocol['queries_per_class']} items of each {unseen}class are queries "
        f"({sizes['queries']:,} in all) and {database}; no query is seen in fit."
    )


def _remarks(result: dict[str, Any], dataset: Dataset) -> list[str]:
    """Say what is missing, which classes are unseen, and if the protocol was scaled down."""
    protocol = result["protocol"]
    remarks = [result["interrupted"]] if "interrupted" in result else []
    if protocol["name"] != RETRIEVAL:
        classes = (
            f"{_series([dataset.class_name(label) for label in labels])} (seed {seed})"
            for seed, labels in zip(protocol["seeds"], protocol["unseen"], strict=True)
        )
        remarks.append(f"Unseen, without a label in fit: {'; '.join(classes)}.")
    if "scaled" in protocol:
        asked = protocol["asked"]
        remarks.append(
            f"Scaled down from {asked['queries_per_class']} queries and "
            f"{asked['labels_per_class']} labels per class: {protocol['scaled']}."
        )
    return remarks + class_notes(protocol)


def _series(values: list[Any]) -> str:
    """Join values as in a sentence: a, b and c."""
    *head, last = map(str, values)
    return f"{', '.join(head)} and {last}" if head else last


def _notes(rows: list[Row], protocol: dict[str, Any]) -> list[str]:
    """Say how figures are averaged, what intervals cover, and which queries are left out."""
    seeds = protocol["seeds"]
    classes = (
        "Small classes have fewer queries, and count less."
        if protocol.get("small_classes")
        else "Every class has as many queries, so these are also means over classes, whatever "
        "their sizes."
    )
    notes = [
        f"Shares are in %, means over queries{' and seeds' * (len(seeds) > 1)}. {classes} "
        "Distances between codes tie: figures are expectations over every order of the ties.",
        interval_note(len(seeds)),
    ]
    references = dict.fromkeys(
        row["difference"]["reference"] for row in rows if row.get("difference")
    )
    if len(references) == 1:
        notes.append(f"The reference is {references.popitem()[0]}.")
    elif references:
        notes.append("The reference is the method with ★ at the same code length.")
    if tuned := tuning_note(rows):
        notes.append(tuned)
    if any(row["published"] is not None for row in rows):
        notes.append(f"Published: {SOURCE}.")
    if left_out := max(row.get("queries_without_relevant", 0) for row in rows):
        notes.append(f"{left_out:,} queries have no relevant item and are left out.")
    return notes
