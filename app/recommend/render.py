"""Render a recommendation as one HTML page, with the template `report.html`."""

from __future__ import annotations

from typing import Any

from app.benchmark.report import POLICY
from app.benchmark.report.templates import report_template
from app.explain.finding import Plot, Series
from app.explain.plots import draw
from app.recommend.table import COLUMNS_NOTE, columns, row_of


def render(result: dict[str, Any]) -> str:
    """Return the page of a result of `recommend`; everything from the dataset is escaped.

    The page needs no host, script, font or other file.
    """
    sampled = result["dataset"]
    return report_template("app.recommend").render(
        policy=POLICY,
        title=f"Recommendation for {sampled['name']}",
        answer=result["answer"].replace("`", ""),
        reached=result["reached"],
        notes=result["notes"],
        why=None if result["runner_up"] is None else result["runner_up"]["why"],
        intro=(
            f"The goal: {result['goal']['in_words']}. Measured on {sampled['sampled']:,} of "
            f"{sampled['items']:,} items of dimension {sampled['dimension']}: methods learn from "
            f"{sampled['training']:,}, queries search {sampled['database']:,}."
        ),
        note=COLUMNS_NOTE,
        headings=columns(result),
        rows=[row_of(result, each) for each in result["candidates"] if "error" not in each],
        errors=[each for each in result["candidates"] if "error" in each],
        plot=draw(plot(result)),
    )


def plot(result: dict[str, Any]) -> Plot:
    """Return the curves of all methods: quality by bytes, with intervals."""
    measured = [each for each in result["candidates"] if "error" not in each]
    series = []
    for method in dict.fromkeys(each["method"] for each in measured):
        own = sorted(
            (each for each in measured if each["method"] == method),
            key=lambda each: int(each["bytes_per_item"]),
        )
        series.append(
            Series(
                method,
                [(float(each["bytes_per_item"]), 100 * each["value"]) for each in own],
                [(100 * each["interval"][0], 100 * each["interval"][1]) for each in own],
            )
        )
    sizes = [each["bytes_per_item"] for each in measured]
    if (line := _line(result)) is not None:
        name, height = line
        series.append(Series.of_law(name, [min(sizes), max(sizes)], [height, height]))
    what = "mAP in %" if result["measure"] == "map" else "recall in %"
    return Plot(
        f"{what.capitalize() if what[0] == 'r' else what} by bytes per item, with intervals that "
        "hold for all candidates together.",
        "bytes per item",
        what,
        series,
        log_x=True,
    )


def _line(result: dict[str, Any]) -> tuple[str, float] | None:
    """Return what the goal asks for, as a line: its name and height in %."""
    goal, raw = result["goal"], result["raw"]["map"]
    if "within" in goal:
        return "the goal", 100 * raw - float(goal["within"])
    if "recall" in goal:
        return "the goal", 100 * float(goal["recall"])
    return None if raw is None else ("descriptors", 100 * raw)
