"""The sheet of a report: queries as pictures, each with its first neighbours."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

from app.benchmark.measure import RAW
from app.datasets.dataset import Dataset
from app.datasets.thumbnails import thumbnail

SIDE = 64
"""Pixels of a picture in the page, at most, each way."""

# Pictures of fewer pixels are shown with sharp ones.
_SMALL = 24


def class_name(dataset: Dataset, label: int) -> str:
    """The name of a class, or its number where it has none; not escaped."""
    names = dataset.class_names
    if label < 0:
        return "no label"
    return str(names[label]) if names is not None and label < len(names) else f"class {label}"


def sheet(result: dict[str, Any], dataset: Dataset) -> tuple[str, str]:
    """Style sheet with the pictures, each once, and the HTML; empty where there are no pictures."""
    found = result["sheet"]
    if dataset.images is None or not found["queries"]:
        return "", ""
    n_bits = shown_length(found["rows"])
    rows = [row for row in found["rows"] if row["n_bits"] in (None, n_bits)]
    cards = "".join(_card(dataset, i, query, rows) for i, query in enumerate(found["queries"]))
    at = "" if n_bits is None else f", at {n_bits} bits"
    small = max(dataset.images.shape[1:3]) < _SMALL
    html = (
        "<section><h2>First neighbours</h2>"
        f"<p>{len(found['queries'])} queries, each of another class, and the first neighbours of "
        f"each under every method{at}, nearest first. <i class='key'></i> is of the query&rsquo;s "
        "class, <i class='key wrong'></i> is not. The split is that of "
        f"seed {result['protocol']['seeds'][0]}; equal distances are in the order of the "
        f"dataset.</p><div class='sheet{' small' * small}'>{cards}</div></section>"
    )
    shown = {*found["queries"], *(i for row in rows for near in row["neighbours"] for i in near)}
    pictures = (
        f".p{i}{{background-image:url({thumbnail(dataset.images[i], SIDE)})}}"
        for i in sorted(shown)
    )
    return "\n".join(pictures), html


def shown_length(rows: list[dict[str, Any]]) -> int | None:
    """The longest code length among those that most methods have; None where only `raw` is."""
    lengths = Counter(row["n_bits"] for row in rows if row["method"] != RAW)
    return max(lengths, key=lambda n_bits: (lengths[n_bits], n_bits), default=None)


def _card(dataset: Dataset, i: int, query: int, rows: list[dict[str, Any]]) -> str:
    """One query with a strip of neighbours under each method."""
    name = escape(class_name(dataset, int(dataset.labels[query])))
    strips = "".join(
        _strip(dataset, query, str(row["method"]), row["neighbours"][i]) for row in rows
    )
    title = escape(str(dataset.ids[query]))
    return (
        f"<div class='card'><h3><i class='picture p{query}' title='{title}'></i>{name}</h3>"
        f"{strips}</div>"
    )


def _strip(dataset: Dataset, query: int, method: str, neighbours: list[int]) -> str:
    label = dataset.labels[query]
    right = sum(bool(dataset.labels[i] == label) for i in neighbours)
    names = [class_name(dataset, int(dataset.labels[i])) for i in neighbours]
    pictures = "".join(
        f"<i class='picture p{i}{'' if dataset.labels[i] == label else ' wrong'}' "
        f"title='{escape(f'{name}, {dataset.ids[i]}')}'></i>"
        for i, name in zip(neighbours, names, strict=True)
    )
    said = escape(f"{method}: {right} of {len(neighbours)} right: {', '.join(names)}")
    return (
        f"<div class='strip' role='img' aria-label='{said}'><span>{escape(method)}</span>"
        f"{pictures}<b>{right}/{len(neighbours)}</b></div>"
    )
