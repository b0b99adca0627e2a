"""Curves of precision: against recall, among the first items, within a Hamming radius."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from markupsafe import Markup

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

Row = dict[str, Any]

_MAX_TICKS = 9


@dataclass(frozen=True)
class Curve:
    """A kind of curve: its caption, its x axis, and the points of a row, in % on the y axis."""

    caption: str
    x: Axis
    x_ticks: list[int]
    x_label: str
    points: Callable[[Row], list[Point]]


def curves(ranks: Sequence[int], n_bits: int | None) -> list[Curve]:
    """Return the curves at a code length; without codes there is none within a radius."""
    at = "" if n_bits is None else f" at {n_bits} bits"
    n = max(2, ranks[-1])
    found = [
        Curve(
            f"Precision against recall{at}, down the whole ranking.",
            Axis(0, 100, LEFT, RIGHT),
            [0, 20, 40, 60, 80, 100],
            "recall, %",
            lambda row: _finite((100 * recall, 100 * value) for recall, value in row["curve"]),
        ),
        Curve(
            f"Precision among the first N items{at}.",
            Axis(1, n, LEFT, RIGHT, log=True),
            [10**power for power in range(math.floor(math.log10(n)) + 1)],
            "N",
            lambda row: _finite(
                (rank, 100 * value) for rank, (_, value) in zip(ranks, row["curve"], strict=True)
            ),
        ),
    ]
    if n_bits is not None:
        step = next(s for s in _round_numbers() if n_bits / s < _MAX_TICKS)
        found.append(
            Curve(
                f"Precision within a Hamming radius{at}; a query that finds nothing counts as 0.",
                Axis(0, n_bits, LEFT, RIGHT),
                list(range(0, n_bits + 1, step)),
                "Hamming radius",
                lambda row: _finite(
                    (radius, 100 * value) for radius, value in enumerate(row["radius_curve"] or [])
                ),
            )
        )
    return found


def highest_precision(rows: Sequence[Row]) -> float:
    """Return the highest precision of any curve in %: where the y axes end."""
    values = [value for row in rows for _, value in row["curve"]]
    values += [value for row in rows for value in row["radius_curve"] or []]
    return max((100 * value for value in values if math.isfinite(value)), default=0)


def curve_plot(curve: Curve, rows: Sequence[Row], top: float) -> Markup | None:
    """Draw one line per method; None if no row has any point. The y axis ends at `top`."""
    shown = [(row, points) for row in rows if (points := curve.points(row))]
    if not shown:
        return None
    y, y_ticks = vertical_axis(0, top)
    lines = []
    for i, (row, values) in enumerate(shown):
        points = [(curve.x(at), y(value)) for at, value in values]
        # Stagger the marks of the methods, so that they do not cover each other. The last point,
        # where all curves meet, gets none.
        places = [LEFT + (RIGHT - LEFT) * (j + i / len(shown)) / 5 for j in range(5)]
        marked = [_nearest(points[:-1] or points, place) for place in places]
        lines.append(line(row["method"], points, sorted(set(marked))))
    methods = [row["method"] for row, _ in sorted(shown, key=lambda each: -each[0]["map"])]
    label = f"{curve.caption} Methods, by mAP: {', '.join(methods)}"
    axes = frame(curve.x, y, curve.x_ticks, y_ticks, curve.x_label, "precision, %")
    names = legend([(method, None) for method in methods])
    return svg(label, axes + "".join(lines) + names)


def _finite(points: Iterable[Point]) -> list[Point]:
    return [point for point in points if all(map(math.isfinite, point))]


def _nearest(points: Sequence[Point], x: float) -> Point:
    """Return the point with the nearest x coordinate."""
    return min(points, key=lambda point: abs(point[0] - x))


def _round_numbers() -> Iterator[int]:
    return (factor * 10**power for power in count() for factor in (1, 2, 5))
