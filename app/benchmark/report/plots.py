"""Plots of a benchmark as inline SVG: no scripts, no library.

A method is told apart by its colour, by the shape of its marks and, from the seventh on, by
dashes and hollow marks. Colours are CSS variables of the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from app.benchmark.rows import RAW
from hashing import HASHERS

WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 44, 332, 24, 284
MAX_CURVES = 5
"""Plots of precision against recall; of more code lengths some are left out."""

Point = tuple[float, float]

_COLOURS = 6
# Paths around the point where a mark stands.
_MARKS = (
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "m-3.6-3.6h7.2v7.2h-7.2z",
    "m0-5.4l5.4 5.4l-5.4 5.4l-5.4-5.4z",
    "m0-5l5 8.6h-10z",
    "m0 5l5-8.6h-10z",
    "m-1.7-5.1h3.4v3.4h3.4v3.4h-3.4v3.4h-3.4v-3.4h-3.4v-3.4h3.4z",
)


@dataclass(frozen=True)
class Style:
    """How a method looks: CSS classes, and the path of its mark; `raw` has none."""

    css: str
    mark: str | None


@dataclass(frozen=True)
class Axis:
    """Values to coordinates."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The coordinate of a value."""
        scale: Callable[[float], float] = math.log2 if self.log else float
        low, high = scale(self.low), scale(self.high)
        return self.start + (self.end - self.start) * (scale(value) - low) / (high - low)


def style(method: str) -> Style:
    """The same method looks the same on every page."""
    if method == RAW:
        return Style("raw", None)
    names = list(HASHERS)
    i = names.index(method) if method in names else len(names)
    colour, again = i % _COLOURS, i // _COLOURS
    # Shifted, so that two methods of one colour differ in shape as well.
    mark = _MARKS[(colour + again) % len(_MARKS)]
    return Style(f"c{colour}" + " again" * (again % 2), mark)


def plots(rows: Sequence[dict[str, Any]], n_seeds: int) -> str:
    """Figures: mAP against code length, and precision against recall at each length.

    Parameters
    ----------
    rows : sequence of dict
        The rows of a result that have figures.
    n_seeds : int
    """
    lengths = sorted({row["n_bits"] for row in rows if row["n_bits"] is not None})
    figures = []
    if lengths:
        bars = f" Bars: standard deviation over {n_seeds} seeds." if n_seeds > 1 else ""
        figures.append((map_plot(rows), "Mean average precision by code length." + bars))
    curved = [row for row in rows if _curve(row)]
    top = max((precision for row in curved for _, precision in _curve(row)), default=0)
    chosen: list[int | None] = [*_some(lengths, MAX_CURVES)] or [None]
    for n_bits in chosen if curved else []:
        drawn = [row for row in curved if row["n_bits"] in (None, n_bits)]
        at = "" if n_bits is None else f" at {n_bits} bits"
        caption = f"Precision against recall{at}, down the whole ranking."
        figures.append((curve_plot(drawn, top, caption), caption))
    return "".join(
        f"<figure>{svg}<figcaption>{caption}</figcaption></figure>" for svg, caption in figures
    )


def map_plot(rows: Sequence[dict[str, Any]]) -> str:
    """MAP in % against code length on a logarithmic axis, one line a method, `raw` across."""
    lengths = sorted({row["n_bits"] for row in rows if row["n_bits"] is not None})
    ends = [
        100 * (row["map"] + sign * (row["map_spread"] or 0)) for row in rows for sign in (-1, 1)
    ]
    y, y_ticks = _axis(max(0, min(ends)), max(ends))
    pad = 1.5 if len(lengths) == 1 else 1
    x = Axis(lengths[0] / pad, lengths[-1] * pad, LEFT + 14, RIGHT - 14, log=True)
    lines, wanted, said = [], [], []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = sorted((r for r in rows if r["method"] == method), key=lambda r: r["n_bits"] or 0)
        values = [(row["n_bits"], 100 * row["map"]) for row in own]
        if method == RAW:
            height = y(values[0][1])
            points: list[Point] = [(LEFT, height), (RIGHT, height)]
            bars = ""
        else:
            points = [(x(n_bits), y(value)) for n_bits, value in values]
            bars = "".join(_bar(x(r["n_bits"]), r, y) for r in own if r["map_spread"])
        lines.append(_line(method, points, points, bars))
        wanted.append((method, points[-1]))
        said.append(f"{method}: " + ", ".join(_said(*value) for value in values))
    frame = _frame(x, y, _apart(lengths, x), y_ticks, "code length, bits", "mAP, %")
    label = "Mean average precision in % by code length. " + "; ".join(said)
    return _svg(label, frame + "".join(lines) + _labels(wanted))


def curve_plot(rows: Sequence[dict[str, Any]], top: float, label: str) -> str:
    """Precision in % against recall in %, one line a method; `top` is the axis's end."""
    x = Axis(0, 100, LEFT, RIGHT)
    y, y_ticks = _axis(0, top)
    lines = []
    for i, row in enumerate(rows):
        points = [(x(recall), y(precision)) for recall, precision in _curve(row)]
        # Marks are staggered from method to method, so that they do not cover each other.
        # At the very end all curves meet.
        places = [LEFT + (RIGHT - LEFT) * (j + i / len(rows)) / 5 for j in range(5)]
        marked = [_nearest(points[:-1] or points, place) for place in places]
        lines.append(_line(row["method"], points, sorted(set(marked))))
    methods = [row["method"] for row in sorted(rows, key=lambda row: -row["map"])]
    frame = _frame(x, y, [0, 20, 40, 60, 80, 100], y_ticks, "recall, %", "precision, %")
    key = _labels([(method, None) for method in methods])
    said = f"{label} Methods, by mAP: {', '.join(methods)}"
    return _svg(said, frame + "".join(lines) + key)


def _curve(row: dict[str, Any]) -> list[Point]:
    """Recall and precision in %; without the points where nothing is relevant to any query."""
    return [
        (100 * recall, 100 * precision)
        for recall, precision in row["curve"]
        if math.isfinite(recall) and math.isfinite(precision)
    ]


def _nearest(points: Sequence[Point], place: float) -> Point:
    return min(points, key=lambda point: abs(point[0] - place))


def _some(values: Sequence[int], n: int) -> list[int]:
    """At most n of the values, the first and the last among them."""
    if len(values) <= n:
        return list(values)
    return [values[round(i * (len(values) - 1) / (n - 1))] for i in range(n)]


def _apart(values: Sequence[int], x: Axis) -> list[int]:
    """Those of the values whose labels have room, the last among them."""
    kept: list[int] = []
    for value in reversed(values):
        if not kept or x(kept[-1]) - x(value) >= 26:
            kept.append(value)
    return kept[::-1]


def _axis(low: float, high: float) -> tuple[Axis, list[float]]:
    """A vertical axis with at most nine round ticks; from 0, unless that wastes most of it."""
    low = 0 if low < 0.4 * high else low
    rough = max(high - low, 1e-9) / 7
    power = 10 ** math.floor(math.log10(rough))
    step = next(step for s in (1, 2, 2.5, 5, 10) if (step := s * power) >= rough * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    ticks = [i * step for i in range(first, last + 1)]
    return Axis(ticks[0], ticks[-1], BOTTOM, TOP), ticks


def _frame(
    x: Axis, y: Axis, x_ticks: Sequence[float], y_ticks: Sequence[float], below: str, beside: str
) -> str:
    grid = "".join(f"M{LEFT} {y(tick):.1f}H{RIGHT}" for tick in y_ticks)
    grid += "".join(f"M{x(tick):.1f} {BOTTOM}v5" for tick in x_ticks)
    across = "".join(
        f'<text x="{x(tick):.2f}" y="{BOTTOM + 19}">{tick:g}</text>' for tick in x_ticks
    )
    up = "".join(f'<text x="{LEFT - 7}" y="{y(tick):.2f}">{tick:g}</text>' for tick in y_ticks)
    return (
        f'<rect class="box" x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"/>'
        f'<path class="grid" d="{grid}"/><g class="x">{across}</g><g class="y">{up}</g>'
        f'<text class="axis" x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 6}">{below}</text>'
        f'<text x="0" y="12">{beside}</text>'
    )


def _line(method: str, points: Sequence[Point], marked: Sequence[Point], bars: str = "") -> str:
    look = style(method)
    path = " ".join(f"{px:.2f},{py:.2f}" for px, py in points)
    marks = "".join(_mark(look, *point) for point in marked)
    return (
        f'<g class="line {look.css}"><title>{escape(method)}</title>'
        f'{bars}<polyline points="{path}"/>{marks}</g>'
    )


def _mark(look: Style, px: float, py: float) -> str:
    return f'<path class="mark" d="M{px:.1f} {py:.1f}{look.mark}"/>' if look.mark else ""


def _bar(px: float, row: dict[str, Any], y: Axis) -> str:
    low, high = (y(100 * max(0, row["map"] + s * row["map_spread"])) for s in (-1, 1))
    return f'<path d="M{px:.1f} {low:.1f}V{high:.1f}m-3 0h6M{px - 3:.1f} {low:.1f}h6"/>'


def _labels(wanted: Sequence[tuple[str, Point | None]]) -> str:
    """Names right of the box: at the ends of their lines where those are given, else in order."""
    places = _spread([TOP + 8 if end is None else end[1] for _, end in wanted])
    parts = []
    for (method, end), height in zip(wanted, places, strict=True):
        look = style(method)
        lead = ""
        if end is not None:
            start = f"{min(end[0] + 6, RIGHT):.1f} {end[1]:.1f}"
            lead = f'<path class="lead" d="M{start}L{RIGHT + 12} {height:.1f}"/>'
        parts.append(
            f'<g class="line {look.css}">{lead}'
            f'<path d="M{RIGHT + 13} {height:.1f}h18"/>{_mark(look, RIGHT + 22, height)}'
            f'<text x="{RIGHT + 36}" y="{height:.1f}">{escape(method)}</text></g>'
        )
    return f'<g class="names">{"".join(parts)}</g>'


def _spread(wanted: Sequence[float]) -> list[float]:
    """Heights as near those wanted as text that needs room allows, inside the box."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    gap = min(17.0, (BOTTOM - TOP) / len(wanted))
    # Isotonic regression, pooling those that are too near each other around their mean.
    pools: list[list[float]] = []
    for k, i in enumerate(order):
        pools.append([wanted[i] - k * gap])
        while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    free = BOTTOM - gap * (len(order) - 1)
    starts = [min(max(_mean(pool), TOP), free) for pool in pools for _ in pool]
    placed = {i: starts[k] + k * gap for k, i in enumerate(order)}
    return [placed[i] for i in range(len(wanted))]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _said(n_bits: int | None, value: float) -> str:
    return f"{value:.1f}" if n_bits is None else f"{value:.1f} at {n_bits} bits"


def _svg(label: str, inside: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{inside}</svg>"
    )
