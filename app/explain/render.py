"""Render an explanation as one HTML page, with the template `report.html`."""

from __future__ import annotations

from app.benchmark.report import POLICY
from app.benchmark.report.templates import report_template
from app.explain.plots import draw
from app.explain.run import Explanation


def render(explanation: Explanation) -> str:
    """Return the page; everything from the dataset is escaped.

    The page needs no host, script, font or other file.
    """
    return report_template("app.explain").render(
        policy=POLICY,
        title=f"What theory says about {explanation.dataset}",
        intro=introduction(explanation),
        findings=explanation.findings,
        draw=draw,
    )


def introduction(explanation: Explanation) -> str:
    """Say what was measured on what."""
    sampled = (
        f"{explanation.n_sampled:,} of the {explanation.n_items:,} items"
        if explanation.n_sampled < explanation.n_items
        else f"all {explanation.n_items:,} items"
    )
    trained = (
        f"The trained encoder is {explanation.trained}."
        if explanation.trained is not None
        else "No trained encoder was compared."
    )
    return (
        f"Measured on {sampled}, as descriptors of dimension {explanation.dimension}, with seed "
        f"{explanation.seed}. {trained} Intervals are at 95 % unless they say otherwise; for most "
        "figures they are over the random draws of the measurement, not over other datasets."
    )
