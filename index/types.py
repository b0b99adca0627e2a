"""Items and answers, as they are given out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from index.search.exact import Certificate
from index.search.filters import Filter


@dataclass(frozen=True, slots=True)
class Item:
    """An item as it is stored: `code` is packed, `label` and `payload` may be None."""

    id: str
    code: bytes
    label: int | None
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An item that a search found, at a Hamming distance.

    `score` is what it was reranked by, `code` its packed code where that was asked for.
    """

    id: str
    distance: int
    label: int | None
    payload: dict[str, Any] | None
    score: float | None = None
    code: bytes | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found for one query, and what proves that it is right.

    `code` is the packed code of the query, where codes were asked for.
    """

    neighbours: list[Neighbour]
    certificate: Certificate
    code: bytes | None = None


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search: see `Collection.search`."""

    k: int | None = None
    radius: int | None = None
    offset: int = 0
    where: Filter | None = None
    rerank: int | None = None
    rerank_by: Literal["descriptors", "bits"] | None = None
    payloads: bool = True
    codes: bool = False
