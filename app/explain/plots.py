"""Plots of findings as SVG: lines, marks, error bars, and the legend below the axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from app.benchmark.report.drawing import Axis, vertical_axis
from app.benchmark.report.style import COLOURS, MARKS
from app.explain.finding import Plot, Series

WIDTH = 460
LEFT, RIGHT, TOP, BOTTOM = 56, 448, 24, 284
_LEGEND_TOP, _LEGEND_STEP = 352, 18
# Narrower than this, in pixels, tick labels would overlap.
_TICK_ROOM = 30
_MAX_TICKS = 8
_ASIDE = 14.0


def draw(plot: Plot) -> Markup:
    """Return a plot as SVG; colours are CSS variables of the page."""
    x, x_ticks = _horizontal(plot)
    y, y_ticks = _vertical(plot)
    parts = [_frame(plot, x, y, x_ticks, y_ticks)]
    n_measured = sum(not series.law for series in plot.series)
    for i, series in enumerate(plot.series):
        join = series.law or not plot.categories
        # The marks of several series at one category stand next to each other.
        shift = 0.0 if join else _ASIDE * (i - (n_measured - 1) / 2)
        parts.append(_curve(series, i, x, y, join=join, shift=shift))
    parts.append(_legend(plot.series))
    height = _LEGEND_TOP + _LEGEND_STEP * len(plot.series)
    label = escape(f"{plot.caption} {'; '.join(_in_words(each) for each in plot.series)}")
    return Markup(  # noqa: S704  All text is escaped where it is put in.
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _horizontal(plot: Plot) -> tuple[Axis, list[tuple[float, str]]]:
    if plot.categories:
        axis = Axis(-0.5, len(plot.categories) - 0.5, LEFT, RIGHT)
        return axis, [(float(i), name) for i, name in enumerate(plot.categories)]
    values = sorted({px for series in plot.series for px, _ in series.points})
    low, high = values[0], values[-1]
    if low == high:
        low, high = (low / 2, high * 2) if plot.log_x else (low - 1, high + 1)
    axis = Axis(low, high, LEFT + 8, RIGHT - 8, log=plot.log_x)
    if plot.log_x:
        return axis, [(tick, _number(tick)) for tick in _apart(values, axis)]
    steps, ticks = vertical_axis(low, high)
    return Axis(steps.low, steps.high, LEFT, RIGHT), [(tick, f"{tick:g}") for tick in ticks]


def _vertical(plot: Plot) -> tuple[Axis, list[tuple[float, str]]]:
    values = [
        value
        for series in plot.series
        for value in [y for _, y in series.points] + [end for bar in series.bars for end in bar]
        if math.isfinite(value) and (value > 0 or not plot.log_y)
    ]
    low, high = min(values), max(values)
    if not plot.log_y:
        if low < 0:
            # `vertical_axis` starts at 0 or above.
            axis, ticks = vertical_axis(0, high - low)
            step = ticks[1]
            first, last = math.floor(low / step), math.ceil(high / step)
            ticks = [i * step for i in range(first, last + 1)]
            return Axis(ticks[0], ticks[-1], BOTTOM, TOP), [(t, f"{t:g}") for t in ticks]
        axis, ticks = vertical_axis(low, high)
        return axis, [(tick, f"{tick:g}") for tick in ticks]
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if len(exponents) > 4 else (1, 2, 5)
    candidates = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    ticks = [tick for tick in candidates if low * 0.999 <= tick <= high * 1.001]
    return Axis(low, max(high, low * 1.01), BOTTOM, TOP, log=True), [
        (tick, _number(tick)) for tick in ticks[:: max(1, math.ceil(len(ticks) / _MAX_TICKS))]
    ]


def _apart(values: Sequence[float], axis: Axis) -> list[float]:
    """Return the values whose tick labels do not overlap."""
    kept: list[float] = []
    for value in values:
        if not kept or axis(value) - axis(kept[-1]) >= _TICK_ROOM:
            kept.append(value)
    return kept


def _frame(
    plot: Plot,
    x: Axis,
    y: Axis,
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
) -> str:
    grid = "".join(f"M{LEFT} {y(tick):.1f}H{RIGHT}" for tick, _ in y_ticks)
    grid += "".join(f"M{x(tick):.1f} {BOTTOM}v5" for tick, _ in x_ticks)
    x_texts = "".join(
        f'<text x="{x(tick):.1f}" y="{BOTTOM + 19}">{_lines(text, x(tick))}</text>'
        for tick, text in x_ticks
    )
    y_texts = "".join(
        f'<text x="{LEFT - 7}" y="{y(tick):.1f}">{text}</text>' for tick, text in y_ticks
    )
    return (
        f'<rect class="box" x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"/>'
        f'<path class="grid" d="{grid}"/><g class="x">{x_texts}</g><g class="y">{y_texts}</g>'
        f'<text class="axis" x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 46}">{escape(plot.x_label)}'
        f'</text><text x="4" y="12">{escape(plot.y_label)}</text>'
    )


def _curve(series: Series, i: int, x: Axis, y: Axis, *, join: bool, shift: float = 0.0) -> str:
    # A point that a log axis lacks is left out.
    shown = [
        (x(px) + shift, y(py), series.bars[k] if series.bars else None)
        for k, (px, py) in enumerate(series.points)
        if math.isfinite(py) and (py > 0 or not y.log)
    ]
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py, _ in shown)
    line = f'<polyline points="{path}"/>' if join else ""
    bars = "".join(_bar(px, bar, y) for px, _, bar in shown if bar is not None)
    marks = "" if series.law else "".join(_mark(i, px, py) for px, py, _ in shown)
    return (
        f'<g class="{_css(series, i)}"><title>{escape(series.name)}</title>{bars}{line}{marks}</g>'
    )


def _lines(text: str, px: float) -> str:
    """Return a tick label; what follows a comma is on a line of its own."""
    first, *others = text.split(", ")
    rest = "".join(f'<tspan x="{px:.1f}" dy="14">{escape(each)}</tspan>' for each in others)
    return escape(first) + rest


def _bar(px: float, bar: tuple[float, float], y: Axis) -> str:
    if not all(map(math.isfinite, bar)):
        return ""
    low, high = (y(min(max(end, y.low), y.high)) for end in bar)
    return (
        f'<path class="bar" d="M{px:.1f} {low:.1f}V{high:.1f}M{px - 3:.1f} {low:.1f}h6'
        f'M{px - 3:.1f} {high:.1f}h6"/>'
    )


def _legend(all_series: Sequence[Series]) -> str:
    parts = []
    for i, series in enumerate(all_series):
        height = _LEGEND_TOP + _LEGEND_STEP * i
        mark = "" if series.law else _mark(i, LEFT + 12, height)
        parts.append(
            f'<g class="{_css(series, i)}"><polyline points="{LEFT},{height} {LEFT + 24},'
            f'{height}"/>{mark}<text x="{LEFT + 32}" y="{height}">{escape(series.name)}</text></g>'
        )
    return f'<g class="names">{"".join(parts)}</g>'


def _css(series: Series, i: int) -> str:
    return f"line c{i % COLOURS}{' law' if series.law else ''}"


def _mark(i: int, px: float, py: float) -> str:
    return f'<path class="mark" d="M{px:.1f} {py:.1f}{MARKS[i % len(MARKS)]}"/>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _in_words(series: Series) -> str:
    points = series.points[:: max(1, len(series.points) // 6)]
    return f"{series.name}: " + ", ".join(f"{y:.3g} at {x:.4g}" for x, y in points)
