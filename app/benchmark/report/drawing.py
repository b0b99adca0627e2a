"""Parts of a plot as inline SVG: axes, lines and legends. Colours are CSS variables of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from app.benchmark.report.style import Style, style_of

WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 44, 332, 24, 284

Point = tuple[float, float]


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


def vertical_axis(low: float, high: float) -> tuple[Axis, list[float]]:
    """Return a y axis with at most nine round ticks; from 0, unless that wastes most of it."""
    low = 0 if low < 0.4 * high else low
    rough = max(high - low, 1e-9) / 7
    power = 10 ** math.floor(math.log10(rough))
    step = next(step for s in (1, 2, 2.5, 5, 10) if (step := s * power) >= rough * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    ticks = [i * step for i in range(first, last + 1)]
    return Axis(ticks[0], ticks[-1], BOTTOM, TOP), ticks


def frame(
    x: Axis,
    y: Axis,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_label: str,
    y_label: str,
) -> str:
    """Return the box of a plot, with its grid, ticks and labels."""
    grid = "".join(f"M{LEFT} {y(tick):.1f}H{RIGHT}" for tick in y_ticks)
    grid += "".join(f"M{x(tick):.1f} {BOTTOM}v5" for tick in x_ticks)
    x_texts = "".join(
        f'<text x="{x(tick):.2f}" y="{BOTTOM + 19}">{tick:.7g}</text>' for tick in x_ticks
    )
    y_texts = "".join(f'<text x="{LEFT - 7}" y="{y(tick):.2f}">{tick:g}</text>' for tick in y_ticks)
    return (
        f'<rect class="box" x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"/>'
        f'<path class="grid" d="{grid}"/><g class="x">{x_texts}</g><g class="y">{y_texts}</g>'
        f'<text class="axis" x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 6}">{x_label}</text>'
        f'<text x="0" y="12">{y_label}</text>'
    )


def line(method: str, points: Sequence[Point], marked: Sequence[Point], bars: str = "") -> str:
    """Return the line of a method, with marks at some of its points."""
    style = style_of(method)
    path = " ".join(f"{px:.2f},{py:.2f}" for px, py in points)
    marks = "".join(_mark(style, *point) for point in marked)
    return (
        f'<g class="line {style.css}"><title>{escape(method)}</title>'
        f'{bars}<polyline points="{path}"/>{marks}</g>'
    )


def _mark(style: Style, px: float, py: float) -> str:
    return f'<path class="mark" d="M{px:.1f} {py:.1f}{style.mark}"/>'


def legend(methods: Sequence[tuple[str, Point | None]]) -> str:
    """Return names right of the box: near the end of their line if it is given, else in order."""
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


def svg(label: str, content: str) -> Markup:
    """Wrap the content, in which all text from users is escaped already."""
    return Markup(  # noqa: S704
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{content}</svg>"
    )
