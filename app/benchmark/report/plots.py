"""Plots of a benchmark as inline SVG, without scripts or a plotting library.

A method is identified by its colour, by the shape of its marks and, from the seventh method on, by
dashes and hollow marks. Colours are CSS variables of the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markupsafe import Markup

from app.benchmark.rows import RAW
from hashing import HASHERS

WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 44, 332, 24, 284
MAX_CURVES = 5
"""Plots of precision against recall, at most; the other code lengths are left out."""

Point = tuple[float, float]

_COLOURS = 6
# SVG paths of the marks, relative to their point.
_MARKS = (
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "m-3.6-3.6h7.2v7.2h-7.2z",
    "m0-5.4l5.4 5.4l-5.4 5.4l-5.4-5.4z",
    "m0-5l5 8.6h-10z",
    "m0 5l5-8.6h-10z",
    "m-1.7-5.1h3.4v3.4h3.4v3.4h-3.4v3.4h-3.4v-3.4h-3.4v-3.4h3.4z",
)


@dataclass(frozen=True)
class Plot:
    """A plot and the text below it."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Style:
    """The look of a method: CSS classes, and the path of its mark; `raw` has no mark."""

    css: str
    mark: str | None


@dataclass(frozen=True)
class Axis:
    """Maps values from `low` to `high` to coordinates from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value."""
        scale: Callable[[float], float] = math.log2 if self.log else float
        low, high = scale(self.low), scale(self.high)
        return self.start + (self.end - self.start) * (scale(value) - low) / (high - low)


def style_of(method: str) -> Style:
    """Return the look of a method, which is the same on every page."""
    if method == RAW:
        return Style("raw", None)
    names = list(HASHERS)
    i = names.index(method) if method in names else len(names)
    colour, repeat = i % _COLOURS, i // _COLOURS
    # Shifted by one, so that two methods of the same colour also differ in shape.
    mark = _MARKS[(colour + repeat) % len(_MARKS)]
    return Style(f"c{colour}" + " again" * (repeat % 2), mark)


def plots(rows: Sequence[dict[str, Any]], n_seeds: int) -> list[Plot]:
    """Plot mAP against code length, and precision against recall at each length.

    Parameters
    ----------
    rows : sequence of dict
        The rows of a result that have figures.
    n_seeds : int
        Number of seeds that each figure is the mean of.
    """
    lengths = _lengths(rows)
    drawn = []
    if lengths:
        bars = f" Bars: standard deviation over {n_seeds} seeds." if n_seeds > 1 else ""
        drawn.append(Plot(map_plot(rows), "Mean average precision by code length." + bars))
    curved = [row for row in rows if _curve(row)]
    top = max((precision for row in curved for _, precision in _curve(row)), default=0)
    chosen: list[int | None] = [*_spread_out(lengths, MAX_CURVES)] or [None]
    for n_bits in chosen if curved else []:
        at_length = [row for row in curved if row["n_bits"] in (None, n_bits)]
        at = "" if n_bits is None else f" at {n_bits} bits"
        caption = f"Precision against recall{at}, down the whole ranking."
        drawn.append(Plot(curve_plot(at_length, top, caption), caption))
    return drawn


def map_plot(rows: Sequence[dict[str, Any]]) -> Markup:
    """Plot mAP in % against code length on a log axis, one line per method, `raw` across."""
    lengths = _lengths(rows)
    ends = [
        100 * (row["map"] + sign * (row["map_spread"] or 0)) for row in rows for sign in (-1, 1)
    ]
    y, y_ticks = _vertical_axis(max(0, min(ends)), max(ends))
    margin = 1.5 if len(lengths) == 1 else 1
    x = Axis(lengths[0] / margin, lengths[-1] * margin, LEFT + 14, RIGHT - 14, log=True)
    lines, line_ends, descriptions = [], [], []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = sorted((r for r in rows if r["method"] == method), key=lambda r: r["n_bits"] or 0)
        values = [(row["n_bits"], 100 * row["map"]) for row in own]
        if method == RAW:
            height = y(values[0][1])
            points: list[Point] = [(LEFT, height), (RIGHT, height)]
            bars = ""
        else:
            points = [(x(n_bits), y(value)) for n_bits, value in values]
            bars = "".join(_error_bar(x(r["n_bits"]), r, y) for r in own if r["map_spread"])
        lines.append(_line(method, points, points, bars))
        line_ends.append((method, points[-1]))
        descriptions.append(f"{method}: " + ", ".join(_in_words(*value) for value in values))
    frame = _frame(x, y, _labelled(lengths, x), y_ticks, "code length, bits", "mAP, %")
    label = "Mean average precision in % by code length. " + "; ".join(descriptions)
    return _svg(label, frame + "".join(lines) + _legend(line_ends))


def curve_plot(rows: Sequence[dict[str, Any]], top: float, label: str) -> Markup:
    """Plot precision in % against recall in %, one line per method; the y axis ends at `top`."""
    x = Axis(0, 100, LEFT, RIGHT)
    y, y_ticks = _vertical_axis(0, top)
    lines = []
    for i, row in enumerate(rows):
        points = [(x(recall), y(precision)) for recall, precision in _curve(row)]
        # Stagger the marks of the methods, so that they do not cover each other. The last point,
        # where all curves meet, gets none.
        places = [LEFT + (RIGHT - LEFT) * (j + i / len(rows)) / 5 for j in range(5)]
        marked = [_nearest(points[:-1] or points, place) for place in places]
        lines.append(_line(row["method"], points, sorted(set(marked))))
    methods = [row["method"] for row in sorted(rows, key=lambda row: -row["map"])]
    frame = _frame(x, y, [0, 20, 40, 60, 80, 100], y_ticks, "recall, %", "precision, %")
    legend = _legend([(method, None) for method in methods])
    return _svg(f"{label} Methods, by mAP: {', '.join(methods)}", frame + "".join(lines) + legend)


def _lengths(rows: Sequence[dict[str, Any]]) -> list[int]:
    """The code lengths of the rows, ascending."""
    return sorted({row["n_bits"] for row in rows if row["n_bits"] is not None})


def _curve(row: dict[str, Any]) -> list[Point]:
    """Recall and precision in %, without the points at which either is undefined."""
    return [
        (100 * recall, 100 * precision)
        for recall, precision in row["curve"]
        if math.isfinite(recall) and math.isfinite(precision)
    ]


def _nearest(points: Sequence[Point], x: float) -> Point:
    """The point with the nearest x coordinate."""
    return min(points, key=lambda point: abs(point[0] - x))


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


def _vertical_axis(low: float, high: float) -> tuple[Axis, list[float]]:
    """A y axis with at most nine round ticks; from 0, unless that wastes most of it."""
    low = 0 if low < 0.4 * high else low
    rough = max(high - low, 1e-9) / 7
    power = 10 ** math.floor(math.log10(rough))
    step = next(step for s in (1, 2, 2.5, 5, 10) if (step := s * power) >= rough * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    ticks = [i * step for i in range(first, last + 1)]
    return Axis(ticks[0], ticks[-1], BOTTOM, TOP), ticks


def _frame(
    x: Axis,
    y: Axis,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_label: str,
    y_label: str,
) -> str:
    grid = "".join(f"M{LEFT} {y(tick):.1f}H{RIGHT}" for tick in y_ticks)
    grid += "".join(f"M{x(tick):.1f} {BOTTOM}v5" for tick in x_ticks)
    x_texts = "".join(
        f'<text x="{x(tick):.2f}" y="{BOTTOM + 19}">{tick:g}</text>' for tick in x_ticks
    )
    y_texts = "".join(f'<text x="{LEFT - 7}" y="{y(tick):.2f}">{tick:g}</text>' for tick in y_ticks)
    return (
        f'<rect class="box" x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"/>'
        f'<path class="grid" d="{grid}"/><g class="x">{x_texts}</g><g class="y">{y_texts}</g>'
        f'<text class="axis" x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 6}">{x_label}</text>'
        f'<text x="0" y="12">{y_label}</text>'
    )


def _line(method: str, points: Sequence[Point], marked: Sequence[Point], bars: str = "") -> str:
    style = style_of(method)
    path = " ".join(f"{px:.2f},{py:.2f}" for px, py in points)
    marks = "".join(_mark(style, *point) for point in marked)
    return (
        f'<g class="line {style.css}"><title>{escape(method)}</title>'
        f'{bars}<polyline points="{path}"/>{marks}</g>'
    )


def _mark(style: Style, px: float, py: float) -> str:
    return f'<path class="mark" d="M{px:.1f} {py:.1f}{style.mark}"/>' if style.mark else ""


def _error_bar(px: float, row: dict[str, Any], y: Axis) -> str:
    low, high = (y(100 * max(0, row["map"] + sign * row["map_spread"])) for sign in (-1, 1))
    return f'<path d="M{px:.1f} {low:.1f}V{high:.1f}m-3 0h6M{px - 3:.1f} {low:.1f}h6"/>'


def _legend(methods: Sequence[tuple[str, Point | None]]) -> str:
    """Names right of the box: near the end of their line if it is given, else in order."""
    heights = _without_overlap([TOP + 8 if end is None else end[1] for _, end in methods])
    parts = []
    for (method, end), height in zip(methods, heights, strict=True):
        style = style_of(method)
        leader = ""
        if end is not None:
            start = f"{min(end[0] + 6, RIGHT):.1f} {end[1]:.1f}"
            leader = f'<path class="lead" d="M{start}L{RIGHT + 12} {height:.1f}"/>'
        parts.append(
            f'<g class="line {style.css}">{leader}'
            f'<path d="M{RIGHT + 13} {height:.1f}h18"/>{_mark(style, RIGHT + 22, height)}'
            f'<text x="{RIGHT + 36}" y="{height:.1f}">{escape(method)}</text></g>'
        )
    return f'<g class="names">{"".join(parts)}</g>'


def _without_overlap(wanted: Sequence[float]) -> list[float]:
    """Heights inside the box, as near those wanted as lines of text that do not overlap can be."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    gap = min(17.0, (BOTTOM - TOP) / len(wanted))
    # Isotonic regression: pool lines that are too near each other around their mean.
    pools: list[list[float]] = []
    for k, i in enumerate(order):
        pools.append([wanted[i] - k * gap])
        while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    lowest = BOTTOM - gap * (len(order) - 1)
    starts = [min(max(_mean(pool), TOP), lowest) for pool in pools for _ in pool]
    placed = {i: starts[k] + k * gap for k, i in enumerate(order)}
    return [placed[i] for i in range(len(wanted))]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _in_words(n_bits: int | None, value: float) -> str:
    return f"{value:.1f}" if n_bits is None else f"{value:.1f} at {n_bits} bits"


def _svg(label: str, content: str) -> Markup:
    """Wrap the content, in which all text from users is escaped already."""
    return Markup(  # noqa: S704
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{content}</svg>"
    )
