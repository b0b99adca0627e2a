"""The look of a method in a plot: its colour, its mark, and whether its line is dashed.

The page of the service draws with the same colours and marks (`app/http/page/curves.js`).
"""

from __future__ import annotations

from dataclasses import dataclass

from app.benchmark.rows import CLASSIFIER, COSINE, FAISS_PQ, FAISS_RABITQ, FAISS_SQ, RAW
from hashing import HASHERS

COLOURS = 6
MARKS = (
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "m-3.6-3.6h7.2v7.2h-7.2z",
    "m0-5.4l5.4 5.4l-5.4 5.4l-5.4-5.4z",
    "m0-5l5 8.6h-10z",
    "m0 5l5-8.6h-10z",
    "m-1.7-5.1h3.4v3.4h3.4v3.4h-3.4v3.4h-3.4v-3.4h-3.4v-3.4h3.4z",
    "m-5 0l8.6-5v10z",
    "m5 0l-8.6-5v10z",
    "m0-5.6l1.6 3.6l3.9.4l-2.9 2.6l.8 3.9l-3.4-2l-3.4 2l.8-3.9l-2.9-2.6l3.9-.4z",
)
"""SVG paths of the marks, relative to their point."""
BASELINE_MARKS = {
    RAW: "m0-2.2l2.6-2.6l2.2 2.2l-2.6 2.6l2.6 2.6l-2.2 2.2l-2.6-2.6l-2.6 2.6l-2.2-2.2l2.6-2.6"
    "l-2.6-2.6l2.2-2.2z",
    COSINE: "m-1.8-5.4h3.6v10.8h-3.6z",
    CLASSIFIER: "m-5.4-1.8h10.8v3.6h-10.8z",
}

FAISS_MARKS = {
    FAISS_RABITQ: "m-5 0l2.5-4.4h5l2.5 4.4l-2.5 4.4h-5z",
    FAISS_SQ: "m-4.4-4.8h8.8l-8.8 9.6h8.8z",
    FAISS_PQ: "m-4.8-4.4l9.6 8.8v-8.8l-9.6 8.8z",
}


@dataclass(frozen=True)
class Style:
    """The look of a method: CSS classes, and the path of its mark."""

    css: str
    mark: str


def style_of(method: str) -> Style:
    """Return the look of a method, which is the same in every plot.

    It follows from the place of the method in `HASHERS`. Up to twice as many methods as there are
    marks differ without colour: from the tenth on, lines are dashed and marks hollow.
    """
    if method in BASELINE_MARKS:
        return Style("raw", BASELINE_MARKS[method])
    if method in FAISS_MARKS:
        return Style("raw", FAISS_MARKS[method])
    names = list(HASHERS)
    i = names.index(method) if method in names else len(names)
    again = " again" * (i // len(MARKS) % 2)
    return Style(f"c{i % COLOURS}{again}", MARKS[i % len(MARKS)])
