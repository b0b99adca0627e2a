"""The table of a report: which columns it has, and the text of each cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column: its heading, its key in a result's row, its format, and its meaning."""

    heading: str
    key: str
    format: Callable[[Any], str]
    meaning: str


@dataclass(frozen=True)
class Cell:
    """The text of a cell; None for a figure that does not apply."""

    text: str | None
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A line of the table; `error` is the reason if the row could not be measured."""

    method: str
    n_bits: int | None
    cells: list[Cell]
    error: str | None = None


def _percent(decimals: int) -> Callable[[float], str]:
    return lambda share: f"{100 * share:.{decimals}f}"


def _interval(ends: list[float]) -> str:
    return "–".join(f"{100 * end:.2f}" for end in ends)  # noqa: RUF001  An en dash: a range.


def _difference(difference: dict[str, Any]) -> str:
    low, high = (f"{100 * end:+.1f}" for end in difference["interval"])
    return f"{100 * difference['mean']:+.1f} ({low}, {high})"


COLUMNS = (
    Column("mAP %", "map", _percent(2), "mean average precision over the whole ranking"),
    Column("± seeds", "map_spread", _percent(2), "sample standard deviation of mAP over seeds"),
    Column("95 % interval", "map_interval", _interval, "confidence interval of mAP; see below"),
    Column(
        "difference",
        "difference",
        _difference,
        "mAP less that of the reference, paired by seed and query, with its 95 % interval",
    ),
    Column("published", "published", "{:.2f}".format, "mAP in the literature"),
    Column(
        "asym",
        "map_asymmetric",
        _percent(2),
        "mAP by asymmetric distance: items are rounded to bits, queries are not",
    ),
    Column(
        "mAP@5000",
        "map_5000",
        _percent(2),
        "mean average precision of the first 5,000: relevant items further back do not count",
    ),
    Column("P@100", "precision_100", _percent(1), "precision among the first 100"),
    Column("P@1000", "precision_1000", _percent(1), "precision among the first 1000"),
    Column(
        "P r≤2",
        "precision_radius_2",
        _percent(1),
        "precision within Hamming radius 2; a query that finds nothing there counts as 0",
    ),
    Column("R r≤2", "recall_radius_2", _percent(1), "recall within Hamming radius 2"),
    Column("none r≤2", "empty_radius_2", _percent(1), "share of queries that find nothing there"),
    Column(
        "NN@100",
        "recall_neighbours_100",
        _percent(1),
        "share of the first 100 that are among the 100 nearest by Euclidean distance",
    ),
    Column("fit s", "fit_seconds", "{:.2f}".format, "seconds to fit"),
    Column("encode s", "encode_seconds", "{:.2f}".format, "seconds to encode the database"),
    Column("bytes", "bytes_per_item", "{:,.0f}".format, "bytes per item"),
)


def recall_columns(rerank: Sequence[int]) -> list[Column]:
    """Return the columns of a benchmark of neighbours."""
    reranked = (
        Column(
            f"rerank {n}",
            f"recall_rerank_{n}",
            _percent(2),
            f"recall if the first {n:,} are ranked again by their descriptors",
        )
        for n in rerank
    )
    return [
        Column("bytes", "bytes_per_item", "{:,.0f}".format, "bytes per item, codes and factors"),
        Column("recall %", "recall", _percent(2), "share of the k true neighbours in the first k"),
        Column("± seeds", "recall_spread", _percent(2), "sample standard deviation over seeds"),
        Column("95 % interval", "recall_interval", _interval, "confidence interval of recall"),
        *reranked,
        Column(
            "queries/s",
            "queries_per_second",
            "{:,.0f}".format,
            "queries per second of a scan by one thread, encoding of the query included",
        ),
        Column("fit s", "fit_seconds", "{:.2f}".format, "seconds to fit"),
        Column("encode s", "encode_seconds", "{:.2f}".format, "seconds to encode the database"),
        Column("ranked by", "ranking", str, "what ranks the items before any reranking"),
    ]


# The figure that methods are compared by: a result has one of them.
_MAIN = ("map", "recall")


def shown_columns(rows: list[Row], columns: Sequence[Column] = COLUMNS) -> list[Column]:
    """Return the columns for which any row has a figure."""
    return [column for column in columns if any(_has(row, column.key) for row in rows)]


def lines_by_method(rows: list[Row], columns: list[Column]) -> list[list[Line]]:
    """Return the lines of the table, grouped by method."""
    best = _best(rows)
    return [
        [_line(row, columns, best) for row in group]
        for _, group in groupby(rows, key=lambda row: row["method"])
    ]


def _line(row: Row, columns: list[Column], best: dict[int | None, str]) -> Line:
    if "error" in row:
        return Line(row["method"], row["n_bits"], [], row["error"])
    cells = [_cell(row, column, best) for column in columns]
    return Line(row["method"], row["n_bits"], cells)


def _cell(row: Row, column: Column, best: dict[int | None, str]) -> Cell:
    if not _has(row, column.key):
        return Cell(None)
    text = column.format(row[column.key])
    return Cell(text, best=column.key in _MAIN and text == best.get(row["n_bits"]))


def _has(row: Row, key: str) -> bool:
    value = row.get(key)
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _best(rows: list[Row]) -> dict[int | None, str]:
    """The best figure at each code length, as printed: methods that look equal are equally good."""
    best: dict[int | None, float] = {}
    for row in rows:
        if row["n_bits"] is not None and "error" not in row:
            figure = next(row[key] for key in _MAIN if key in row)
            best[row["n_bits"]] = max(best.get(row["n_bits"], 0.0), figure)
    return {n_bits: _percent(2)(value) for n_bits, value in best.items()}
