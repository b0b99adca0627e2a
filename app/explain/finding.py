"""What is found for one law: its statement, figures with intervals, and plots as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hashing.theory.samples import Estimate

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One curve of a plot.

    Attributes
    ----------
    name : str
    points : list of (x, y)
    bars : list of (low, high)
        The ends of the error bar of each point; empty without.
    law : bool
        Whether the curve is what the law says, rather than measured: drawn dashed, without marks.
    """

    name: str
    points: list[tuple[float, float]]
    bars: list[tuple[float, float]] = field(default_factory=list)
    law: bool = False

    @classmethod
    def measured(cls, name: str, x: Sequence[float], y: Sequence[Estimate]) -> Series:
        """Return the curve of estimates, with their intervals as bars."""
        points = [(float(a), b.value) for a, b in zip(x, y, strict=True)]
        return cls(name, points, [(b.low, b.high) for b in y])

    @classmethod
    def of_law(cls, name: str, x: Sequence[float], y: Sequence[float]) -> Series:
        """Return a curve that the law says."""
        return cls(name, [(float(a), float(b)) for a, b in zip(x, y, strict=True)], law=True)


@dataclass(frozen=True)
class Plot:
    """A plot as data.

    Attributes
    ----------
    caption, x_label, y_label : str
    series : list of Series
    log_x, log_y : bool
    categories : list of str
        Names of the places 0, 1, 2 … on the x axis; empty if it is numeric.
    """

    caption: str
    x_label: str
    y_label: str
    series: list[Series]
    log_x: bool = False
    log_y: bool = False
    categories: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Figure:
    """A figure with its interval; both ends are NaN where there is none."""

    name: str
    estimate: Estimate

    @property
    def text(self) -> str:
        """The figure and its interval, in three digits."""
        value, low, high = self.estimate.value, self.estimate.low, self.estimate.high
        if math.isnan(low):
            return _three_digits(value)
        return f"{_three_digits(value)} ({_three_digits(low)} to {_three_digits(high)})"


@dataclass(frozen=True)
class Law:
    """What is said of a law before anything is measured.

    Attributes
    ----------
    key : str
        Its name on the command line.
    question : str
        What the law answers.
    statement : str
        The law, for readers who do not know the papers.
    limit : str
        Where it stops being true.
    source : str
    """

    key: str
    question: str
    statement: str
    limit: str
    source: str


@dataclass(frozen=True)
class Finding:
    """What is found for a law; `problem` says what is missing if nothing could be measured."""

    law: Law
    answer: str = ""
    figures: list[Figure] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    problem: str | None = None


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings as JSON has them: NaN becomes null. Figures have their `text` too."""
    return [_plain(asdict(each) | {"figures": _figures(each)}) for each in findings]


def value_only(value: float) -> Estimate:
    """Return a figure without an interval."""
    return Estimate(float(value), math.nan, math.nan)


def _figures(finding: Finding) -> list[dict[str, Any]]:
    return [asdict(figure) | {"text": figure.text} for figure in finding.figures]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _three_digits(value: float) -> str:
    if value != 0 and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.2e}" if abs(value) < 1e-3 else f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
