"""Plots of a benchmark as inline SVG, without scripts or a plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from app.benchmark.report.curves import curve_plot, curves, highest_precision
from app.benchmark.report.drawing import (
    LEFT,
    RIGHT,
    Axis,
    Point,
    frame,
    legend,
    line,
    svg,
    vertical_axis,
)

MAX_LENGTHS = 5
"""Code lengths with plots of precision, at most; the others are left out."""


@dataclass(frozen=True)
class Plot:
    """A plot and the text below it."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Size:
    """What the x axis of a plot shows: its key in a row, its name, its unit."""

    key: str
    name: str
    unit: str

    @property
    def label(self) -> str:
        """The text below the axis."""
        return f"{self.name}, {self.unit}" if self is BITS else self.name


BITS = Size("n_bits", "code length", "bits")
BYTES = Size("bytes_per_item", "bytes per item", "bytes")


def plots(rows: Sequence[dict[str, Any]], n_seeds: int, ranks: Sequence[int]) -> list[Plot]:
    """Plot mAP against code length and, at each length, the precision curves.

    Parameters
    ----------
    rows : sequence of dict
        The rows of a result that have figures.
    n_seeds : int
        Number of seeds that each figure is the mean of.
    ranks : sequence of int
        The ranks at which the curves of the rows are measured.
    """
    lengths = _lengths(rows)
    drawn = []
    if lengths:
        bars = f" Bars: standard deviation over {n_seeds} seeds." if n_seeds > 1 else ""
        name = "Mean average precision"
        drawn.append(Plot(figure_plot(rows, "map", name, BITS), f"{name} by code length.{bars}"))
    chosen: list[int | None] = [*_spread_out(lengths, MAX_LENGTHS)] or [None]
    top = highest_precision(rows)
    for n_bits in chosen:
        at_length = [row for row in rows if row["n_bits"] in (None, n_bits)]
        drawn += [
            Plot(found, curve.caption)
            for curve in curves(ranks, n_bits)
            if (found := curve_plot(curve, at_length, top))
        ]
    return drawn


def recall_plots(
    rows: Sequence[dict[str, Any]], n_seeds: int, protocol: Mapping[str, Any]
) -> list[Plot]:
    """Plot the recall of k neighbours against bytes per item, for each number that is reranked."""
    if not _lengths(rows):
        return []
    bars = f" Bars: standard deviation over {n_seeds} seeds." if n_seeds > 1 else ""
    name = f"Recall of {protocol['k']}"
    drawn = [Plot(figure_plot(rows, "recall", name, BYTES), f"{name} by bytes per item.{bars}")]
    for n in protocol["rerank"]:
        caption = f"{name}, if the first {n:,} are ranked again by their descriptors."
        plot = figure_plot(rows, f"recall_rerank_{n}", f"{name} with rerank {n}", BYTES)
        drawn.append(Plot(plot, caption))
    return drawn


def figure_plot(rows: Sequence[dict[str, Any]], key: str, name: str, size: Size) -> Markup:
    """Plot a figure in % against a size on a log axis, one line per method, baselines across.

    Bars show the spread of the figure over seeds, if the rows have it.
    """
    spread = f"{key}_spread"
    lengths = _lengths(rows, size)
    ends = [100 * (row[key] + sign * (row.get(spread) or 0)) for row in rows for sign in (-1, 1)]
    y, y_ticks = vertical_axis(max(0, min(ends)), max(ends))
    margin = 1.5 if len(lengths) == 1 else 1
    x = Axis(lengths[0] / margin, lengths[-1] * margin, LEFT + 14, RIGHT - 14, log=True)
    lines, line_ends, descriptions = [], [], []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = sorted((r for r in rows if r["method"] == method), key=lambda r: r["n_bits"] or 0)
        values = [(row[size.key], 100 * row[key]) for row in own]
        if own[0]["n_bits"] is None:
            values = [(None, 100 * own[0][key])]
            height = y(values[0][1])
            points: list[Point] = [(LEFT, height), (RIGHT, height)]
            bars = ""
        else:
            points = [(x(at), y(value)) for at, value in values]
            bars = "".join(
                _error_bar(x(r[size.key]), r[key], r[spread], y) for r in own if r.get(spread)
            )
        lines.append(line(method, points, points, bars))
        line_ends.append((method, points[-1]))
        descriptions.append(
            f"{method}: " + ", ".join(_in_words(*value, size.unit) for value in values)
        )
    axes = frame(
        x,
        y,
        _labelled(lengths, x),
        y_ticks,
        size.label,
        "mAP, %" if key == "map" else "recall, %",
    )
    label = f"{name} in % by {size.name}. " + "; ".join(descriptions)
    return svg(label, axes + "".join(lines) + legend(line_ends))


def _lengths(rows: Sequence[dict[str, Any]], size: Size = BITS) -> list[int]:
    """The sizes of the rows that have codes, ascending."""
    return sorted({row[size.key] for row in rows if row["n_bits"] is not None})


def _spread_out(values: Sequence[int], n: int) -> list[int]:
    """At most n of the values, evenly spaced, with the first and the last."""
    if len(values) <= n:
        return list(values)
    return [values[round(i * (len(values) - 1) / (n - 1))] for i in range(n)]


def _labelled(values: Sequence[int], x: Axis) -> list[int]:
    """The values whose tick labels do not overlap; the last is always one of them."""
    kept: list[int] = []
    for value in reversed(values):
        if not kept or x(kept[-1]) - x(value) >= 26:
            kept.append(value)
    return kept[::-1]


def _error_bar(px: float, value: float, spread: float, y: Axis) -> str:
    low, high = (y(100 * max(0, value + sign * spread)) for sign in (-1, 1))
    return f'<path d="M{px:.1f} {low:.1f}V{high:.1f}m-3 0h6M{px - 3:.1f} {low:.1f}h6"/>'


def _in_words(at: int | None, value: float, unit: str) -> str:
    return f"{value:.1f}" if at is None else f"{value:.1f} at {at} {unit}"
