"""Draw the plots of docs/theory.md from the result of `bitcell explain`.

Run it from the root of the repository:

    .venv/bin/bitcell explain --dataset cifar10 --json explained.json
    .venv/bin/python docs/images/make_theory_plots.py explained.json

The pictures carry their own background, in the colours that the viewer prefers, so that they can be
read on light and dark pages alike.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from app.explain.finding import Plot, Series
from app.explain.plots import draw

FOLDER = Path(__file__).resolve().parent
# The laws that the page shows: which of their plots.
SHOWN = {
    "embedding": 0,
    "calibration": 0,
    "compression": 0,
    "labels": 0,
    "training": 0,
    "angles": 1,
    "inversion": 0,
    "privacy": 0,
}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: var(--ink) }
.page { fill: var(--page) }
.box { fill: none }
.grid { stroke: var(--rule); fill: none }
.x text, .axis { text-anchor: middle }
.y text { text-anchor: end; dominant-baseline: central }
.x text, .y text { font-size: 12px; fill: var(--soft) }
.names text { dominant-baseline: central; font-size: 12.5px }
.line { fill: none; stroke: var(--c); stroke-width: 1.8 }
.line text { stroke: none }
.line .mark { fill: var(--c); stroke: var(--page); stroke-width: .8 }
.bar { stroke-width: 1.2 }
.law polyline { stroke-dasharray: 5 4 }
.c0 { --c: var(--c0) } .c1 { --c: var(--c1) } .c2 { --c: var(--c2) }
.c3 { --c: var(--c3) } .c4 { --c: var(--c4) } .c5 { --c: var(--c5) }
svg { --page: #fff; --ink: #1b1d21; --soft: #62666d; --rule: #d9dbdf;
  --c0: #1954c0; --c1: #c94a24; --c2: #1f877a; --c3: #8d53e3; --c4: #024802; --c5: #873460 }
@media (prefers-color-scheme: dark) {
  svg { --page: #15171b; --ink: #e9eaec; --soft: #a3a8b0; --rule: #3a3e45;
    --c0: #8aa0ff; --c1: #ec7748; --c2: #37b7a7; --c3: #d99af9; --c4: #76edbe; --c5: #f9a438 }
}
"""


def read_plot(value: dict[str, Any]) -> Plot:
    """Return a plot of a JSON result; null is a figure that there is not."""
    series = [
        Series(
            each["name"],
            [(x, _number(y)) for x, y in each["points"]],
            [(_number(low), _number(high)) for low, high in each["bars"]],
            each["law"],
        )
        for each in value["series"]
    ]
    return Plot(**value | {"series": series})


def standalone(plot: Plot) -> str:
    """Return the plot as an SVG file, with its colours and a background."""
    head, _, rest = draw(plot).partition(">")
    page = '<rect class="page" width="100%" height="100%"/>'
    return f"{head}><style>{STYLE}</style>{page}{rest}\n"


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def main(path: Path) -> None:
    """Write the plots of a result into the folder of this script."""
    for finding in json.loads(path.read_text())["findings"]:
        key = finding["law"]["key"]
        if key in SHOWN and finding["plots"]:
            plot = read_plot(finding["plots"][SHOWN[key]])
            (FOLDER / f"theory-{key}.svg").write_text(standalone(plot))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
