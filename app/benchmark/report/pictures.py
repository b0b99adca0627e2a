"""The sheet of a report: queries as pictures, each with its first neighbours."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from app.datasets.dataset import Dataset
from app.datasets.thumbnails import thumbnail
from hashing.labels import share_a_label

SIDE = 64
"""Pixels of a picture in the page, at most, in each direction."""

# Images below this many pixels are enlarged without smoothing.
_SMALL = 24


@dataclass(frozen=True)
class Neighbour:
    """A neighbour of a query: its position in the dataset, its caption, and if it is relevant."""

    position: int
    title: str
    right: bool


@dataclass(frozen=True)
class Strip:
    """The first neighbours of a query under one method; `label` says the same in words."""

    method: str
    neighbours: list[Neighbour]
    n_right: int
    label: str


@dataclass(frozen=True)
class Card:
    """A query: its position in the dataset, its class and id, and a strip per method."""

    query: int
    class_name: str
    title: str
    strips: list[Strip]


@dataclass(frozen=True)
class Sheet:
    """All cards, and their pictures.

    Attributes
    ----------
    cards : list of Card
    pictures : dict
        The data URI of each picture, by position in the dataset.
    n_bits : int or None
        The code length shown; None if there are only baselines.
    small : bool
        Whether the pictures are enlarged without smoothing.
    """

    cards: list[Card]
    pictures: dict[int, str]
    n_bits: int | None
    small: bool


def make_sheet(result: dict[str, Any], dataset: Dataset) -> Sheet | None:
    """Return the sheet of a result; None if the dataset has no images."""
    queries, rows = result["sheet"]["queries"], result["sheet"]["rows"]
    if dataset.images is None or not queries:
        return None
    n_bits = shown_length(rows)
    rows = [row for row in rows if row["n_bits"] in (None, n_bits)]
    positions = {*queries, *(i for row in rows for strip in row["neighbours"] for i in strip)}
    return Sheet(
        cards=[_card(dataset, i, query, rows) for i, query in enumerate(queries)],
        pictures={i: thumbnail(dataset.images[i], SIDE) for i in sorted(positions)},
        n_bits=n_bits,
        small=max(dataset.images.shape[1:3]) < _SMALL,
    )


def shown_length(rows: list[dict[str, Any]]) -> int | None:
    """Return the code length that most methods have, the longest of several; None without any."""
    lengths = Counter(row["n_bits"] for row in rows if row["n_bits"] is not None)
    return max(lengths, key=lambda n_bits: (lengths[n_bits], n_bits), default=None)


def _card(dataset: Dataset, i: int, query: int, rows: list[dict[str, Any]]) -> Card:
    return Card(
        query=query,
        class_name=dataset.names_of(query),
        title=str(dataset.ids[query]),
        strips=[_strip(dataset, query, row["method"], row["neighbours"][i]) for row in rows],
    )


def _strip(dataset: Dataset, query: int, method: str, positions: list[int]) -> Strip:
    names = [dataset.names_of(i) for i in positions]
    shared = share_a_label(dataset.targets[[query]], dataset.targets[positions])[0]
    neighbours = [
        Neighbour(
            position=i,
            title=f"{name}, {dataset.ids[i]}",
            right=bool(right),
        )
        for i, name, right in zip(positions, names, shared, strict=True)
    ]
    n_right = sum(neighbour.right for neighbour in neighbours)
    label = f"{method}: {n_right} of {len(positions)} right: {', '.join(names)}"
    return Strip(method, neighbours, n_right, label)
