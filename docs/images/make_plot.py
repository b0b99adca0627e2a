"""Draw map-by-bits.svg from the table of results in README.md.

Run it from the root of the repository after the table has changed:

    .venv/bin/python docs/images/make_plot.py

The picture carries its own background, in the colours that the viewer prefers, so that it can be
read on light and dark pages alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
PLOT = Path(__file__).with_name("map-by-bits.svg")
BITS = (12, 24, 48)

WIDTH, HEIGHT = 760, 650
LEFT, RIGHT, TOP, BOTTOM = 56, 560, 24, 480
LOWEST, HIGHEST, TICK = 10, 55, 5
LABEL_GAP = 18
LEGEND = 560
"""Top of the legend, below the axis."""

# What a method learns from, as in the table: the name of its colour and what the legend says.
GROUPS = {
    "": ("none", "nothing: distances without a code"),
    "mean": ("mean", "the mean alone"),
    "descriptors": ("descriptors", "descriptors"),
    "pairs": ("pairs", "pairs from labels"),
    "labels": ("labels", "labels"),
    "labels, all descriptors": ("both", "labels and all descriptors"),
    "labels, all descriptors and images": ("images", "labels, all descriptors and images"),
}
STYLE = """
text { font: 14px system-ui, sans-serif; fill: var(--text) }
.small { font-size: 12px }
.page { fill: var(--page) }
.grid { stroke: var(--grid); fill: none }
.line { fill: none; stroke-width: 2.5; stroke-linejoin: round }
.lead { fill: none; stroke-width: 1; opacity: .6 }
.none { stroke: var(--none); stroke-dasharray: 7 5 }
.mean { stroke: var(--mean) }
.descriptors { stroke: var(--descriptors) }
.pairs { stroke: var(--pairs) }
.labels { stroke: var(--labels) }
.both { stroke: var(--both) }
.images { stroke: var(--images) }
circle { fill: var(--page); stroke-width: 2.5 }
svg { --page: #fff; --text: #1f2328; --grid: #d8dee4; --none: #59636e; --mean: #8250df;
  --descriptors: #1a7f37; --pairs: #bc4c00; --labels: #0969da; --both: #bf3989;
  --images: #7d6600 }
@media (prefers-color-scheme: dark) {
  svg { --page: #0d1117; --text: #e6edf3; --grid: #30363d; --none: #9198a1; --mean: #a371f7;
    --descriptors: #3fb950; --pairs: #f0883e; --labels: #58a6ff; --both: #f778ba;
    --images: #d4b106 }
}
"""


@dataclass(frozen=True)
class Series:
    """The mAP of one method in %, at each of `BITS`."""

    method: str
    group: str
    values: list[float]


def read_table(text: str) -> list[Series]:
    """Read the table of results: its rows start with a method in backquotes.

    Methods without figures of their own ("as `lsh`") are left out. `raw` has one figure, which it
    gets at every length.
    """
    series = []
    for method, rest in re.findall(r"^\| `([\w+-]+)`([^\n]*)\|$", text, re.MULTILINE):
        cells = [cell.strip() for cell in rest.split("|")]
        if len(cells) != 5:
            continue  # A row of another table.
        _, _, group, figures, _ = cells
        values = [float(figure) for figure in re.findall(r"\d+\.\d", figures)]
        if values:
            series.append(Series(method, group, values if len(values) > 1 else values * len(BITS)))
    return series


def draw(series: list[Series]) -> str:
    """Return the plot as SVG: a line for each method, labelled at its right end."""
    parts = [_axes(), _legend()]
    ends = [_y(one.values[-1]) for one in series]
    for one, end, place in zip(series, ends, _spread(ends), strict=True):
        colour, _ = GROUPS[one.group]
        points = [(_x(index), _y(value)) for index, value in enumerate(one.values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="line {colour}" points="{path}"/>')
        if colour != "none":
            parts += [
                f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points
            ]
        lead = f"M{_x(2) + 8:.1f} {end:.1f}L{RIGHT + 30} {place:.1f}"
        parts.append(f'<path class="lead {colour}" d="{lead}"/>')
        label = f"{escape(one.method)} {one.values[-1]:.1f}"
        parts.append(f'<text x="{RIGHT + 36}" y="{place + 5:.1f}">{label}</text>')
    said = "; ".join(
        f"{one.method} {', '.join(f'{value:.1f}' for value in one.values)}" for one in series
    )
    title = f"mAP in % on CIFAR-10 at {', '.join(map(str, BITS))} bits. {said}."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _x(index: int) -> float:
    return LEFT + 24 + index * (RIGHT - LEFT - 48) / (len(BITS) - 1)


def _y(value: float) -> float:
    return BOTTOM - (value - LOWEST) * (BOTTOM - TOP) / (HIGHEST - LOWEST)


def _axes() -> str:
    ticks = range(LOWEST, HIGHEST + 1, TICK)
    grid = "".join(f"M{LEFT} {_y(tick):.1f}H{RIGHT}" for tick in ticks)
    numbers = [
        f'<text class="small" x="{LEFT - 8}" y="{_y(tick) + 4:.1f}" text-anchor="end">{tick}</text>'
        for tick in ticks
    ]
    lengths = [
        f'<text x="{_x(index):.1f}" y="{BOTTOM + 24}" text-anchor="middle">{n_bits}</text>'
        for index, n_bits in enumerate(BITS)
    ]
    middle = (TOP + BOTTOM) / 2
    return "\n".join(
        [
            f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
            f'<path class="grid" d="{grid}"/>',
            *numbers,
            *lengths,
            f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 48}" text-anchor="middle">'
            "code length, bits</text>",
            f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">'
            "mean average precision, %</text>",
        ]
    )


def _legend() -> str:
    parts = [f'<text class="small" x="{LEFT + 24}" y="{LEGEND}">The method learns from</text>']
    for place, (colour, meaning) in enumerate(GROUPS.values()):
        column, row = divmod(place, 4)
        x, y = LEFT + 24 + 260 * column, LEGEND + 18 * (row + 1)
        parts.append(f'<path class="line {colour}" d="M{x} {y - 4}h28"/>')
        parts.append(f'<text class="small" x="{x + 36}" y="{y}">{meaning}</text>')
    return "\n".join(parts)


def _spread(wanted: list[float]) -> list[float]:
    """Return heights for labels near the wanted ones, at least `LABEL_GAP` apart."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    # Pools of labels that touch; each is centred on the mean of the heights that it wants.
    pools: list[list[int]] = []
    for index in order:
        pools.append([index])
        while len(pools) > 1 and _bottom(pools[-2], wanted) > _top(pools[-1], wanted):
            last = pools.pop()
            pools[-1] += last
    places = [0.0] * len(wanted)
    for pool in pools:
        for step, index in enumerate(pool):
            places[index] = _top(pool, wanted) + LABEL_GAP * (step + 0.5)
    return places


def _top(pool: list[int], wanted: list[float]) -> float:
    return sum(wanted[index] for index in pool) / len(pool) - LABEL_GAP * len(pool) / 2


def _bottom(pool: list[int], wanted: list[float]) -> float:
    return _top(pool, wanted) + LABEL_GAP * len(pool)


if __name__ == "__main__":
    PLOT.write_text(draw(read_table(README.read_text())))
