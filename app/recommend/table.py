"""The table of candidates, as the command line and the report show it."""

from __future__ import annotations

from typing import Any

COLUMNS_NOTE = (
    "Intervals hold for all candidates together with 95 %, on the choosing queries; candidates "
    "that were soon out of the question were measured with few of these."
)


def columns(result: dict[str, Any]) -> list[str]:
    """Return the headings."""
    quality = ["mAP %" if result["measure"] == "map" else "recall %"]
    if "within" in result["goal"]:
        quality.append("to raw")
    return ["method", "bits", "bytes", *quality, "interval", "queries", "fit s", "goal"]


def row_of(result: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """Return the cells of a candidate that was measured.

    The interval is that of what the goal limits.
    """
    quality = [f"{100 * row['value']:.1f}"]
    if "within" in result["goal"]:
        quality += [f"{100 * row['gain']:+.1f}", _interval(row["gain_interval"], "+")]
    else:
        quality.append(_interval(row["interval"], ""))
    return [
        row["method"],
        str(row["n_bits"]),
        str(row["bytes_per_item"]),
        *quality,
        str(row["queries"]),
        f"{row['fit_seconds']:.2f}",
        row["verdict"],
    ]


def _interval(ends: list[float], sign: str) -> str:
    low, high = (f"{100 * end:{sign}.1f}" for end in ends)
    return f"{low} to {high}"
