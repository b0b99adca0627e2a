"""The arguments and results of a collection's methods."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes
from index.errors import InvalidItems
from index.filters.filter import Filter

RerankBy = Literal["descriptors", "cosine", "bits"]


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What a search returns.

    Attributes
    ----------
    k : int
        Number of neighbours to return, at least 1. Fewer are returned if there are fewer.
    radius : int, optional
        Largest Hamming distance of a neighbour.
    max_score : float, optional
        Largest estimated distance of a neighbour, in a collection that ranks by estimates.
    offset : int
        Number of nearest neighbours to skip: those of earlier pages.
    where : Filter, optional
        Search only the items that match.
    rerank : int, optional
        Take the `rerank` nearest by Hamming distance, at least offset + k of them, and sort them by
        a finer distance before the page is cut.
    rerank_by : {"descriptors", "cosine", "bits"}, optional
        The finer distance: to the descriptors that the collection keeps, the Euclidean one or one
        minus the cosine; or the asymmetric distance to the bits of the codes. By default,
        "descriptors" if the collection keeps them and "bits" otherwise.
    confidence : float, optional
        In a collection that ranks by estimates and keeps descriptors: compare as many items by
        descriptors as it takes to find each true neighbour with this probability, from 0.5 up to,
        not including, 1.
    payloads : bool
        Whether to read the payloads of the neighbours.
    codes : bool
        Whether to return the codes of the queries and of the neighbours.
    count_within : bool
        With a radius or `max_score`: whether to count all items within it, also those that are not
        found because there are more than `depth`.

    Raises
    ------
    InvalidItems
        A number is out of range.
    """

    k: int
    radius: int | None = None
    offset: int = 0
    where: Filter | None = None
    rerank: int | None = None
    rerank_by: RerankBy | None = None
    payloads: bool = True
    codes: bool = False
    count_within: bool = False
    max_score: float | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InvalidItems(f"k must be at least 1, got {self.k}")
        if self.radius is not None and self.radius < 0:
            raise InvalidItems(f"radius must be at least 0, got {self.radius}")
        if self.max_score is not None and not math.isfinite(self.max_score):
            raise InvalidItems(f"max_score must be a finite number, got {self.max_score}")
        if self.offset < 0:
            raise InvalidItems(f"offset must be at least 0, got {self.offset}")
        last = self.page.stop
        if self.rerank is not None and self.rerank < last:
            raise InvalidItems(f"rerank must be at least offset + k = {last}, got {self.rerank}")
        if self.confidence is not None:
            if not 0.5 <= self.confidence < 1:
                raise InvalidItems(
                    f"confidence must be at least 0.5 and below 1, got {self.confidence}"
                )
            if self.rerank is not None or self.max_score is not None:
                raise InvalidItems("confidence replaces rerank, and goes without max_score")
        if self.rerank_by not in (None, *get_args(RerankBy)):
            raise InvalidItems(
                f"rerank_by must be 'descriptors', 'cosine' or 'bits', got {self.rerank_by!r:.50}"
            )
        if self.rerank_by is not None and self.rerank is None:
            raise InvalidItems(
                f"rerank_by needs rerank, the number of items to reorder by {self.rerank_by}"
            )

    @property
    def depth(self) -> int:
        """Number of nearest neighbours to find before the page is cut."""
        return self.rerank or self.page.stop

    def rerank_distance(self, keep_descriptors: bool) -> RerankBy:
        """Return `rerank_by`, or its default for a collection that does or does not keep them."""
        return self.rerank_by or ("descriptors" if keep_descriptors else "bits")

    @property
    def page(self) -> slice:
        """The neighbours to return, of those that were found."""
        return slice(self.offset, self.offset + self.k)


@dataclass(frozen=True, slots=True)
class Item:
    """A stored item. `code` is packed; `label` and `payload` are None where it has none.

    `payload_json` is the payload as it is stored: compact JSON in UTF-8.
    """

    id: str
    code: bytes
    label: int | None
    payload_json: bytes | None

    @property
    def payload(self) -> dict[str, Any] | None:
        """The payload, parsed at each call."""
        return _parsed(self.payload_json)


class DescriptorBatch(NamedTuple):
    """Some of the items of a collection that keeps descriptors: labels are -1 for none."""

    ids: list[str]
    labels: NDArray[np.int64]
    descriptors: NDArray[Any]


class CodeBatch(NamedTuple):
    """Some of the items of a collection, with their packed codes."""

    ids: list[str]
    codes: Codes


class ItemBatch(NamedTuple):
    """All of some items of a collection, as snapshots and copies hold them.

    Attributes
    ----------
    ids : list of str
    codes : (n, ceil(n_bits / 8)) uint8
        Packed.
    labels : (n,) int64
        -1 for none.
    payloads : list
        Compact JSON, None for none.
    descriptors : (n, d), optional
        Where the collection keeps them.
    factors : (n, 3) float32, optional
        Where it ranks by estimates.
    """

    ids: list[str]
    codes: Codes
    labels: NDArray[np.int64]
    payloads: list[str | None]
    descriptors: NDArray[Any] | None
    factors: NDArray[np.float32] | None


class Patch(NamedTuple):
    """Items that a patch has written again, with the codes that they had.

    Attributes
    ----------
    first : int
        Their new serial numbers are this one and those that follow.
    old : (n,)
        The serial numbers that they had.
    """

    first: int
    old: NDArray[np.int64]


class CodeSample(NamedTuple):
    """Packed codes of items chosen at random, in random order, and the number of all items."""

    codes: Codes
    n_items: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a search compared. It is about the search, before a page is cut or reranked.

    Attributes
    ----------
    exact : bool
        Every item that the filter allows is among those found, or at least as far away as they are.
    radius : int
        Every code within this distance of the query was compared, if the filter allows it.
    looked : int or None
        Number of codes that were compared; None where the index does not say.
    tie : int or None
        Number of items at the distance of the last item found, whether returned or not; None where
        there are more than the index can count.
    within : int or None
        Number of items within the radius that the search was given; None without such a radius, or
        if the search ended at its depth and was not asked to count the others.
    truncated : bool or None
        Whether fewer were found than are within that radius; None if `within` is.
    ranking : "estimate" or None
        "estimate" where items are ranked by estimated distances: `exact` and `tie` are about these,
        `within` about the largest one that was asked for, and `radius` is the code length, because
        every code is compared. None for the Hamming distance.
    error_bound : float or None
        By how much the distances of the items found may differ from the estimates, at most; it
        holds for about 94 % of them.
    confidence : float or None
        With which probability each true neighbour is among those found, if that was asked for.
        `exact` then says whether it is certain. `tie` is about true distances where estimates rank,
        and about the Hamming distance of the last item that was reranked elsewhere.
    reranked : int or None
        Number of items whose descriptors were compared for that.
    """

    exact: bool
    radius: int
    looked: int | None
    tie: int | None
    within: int | None = None
    truncated: bool | None = None
    ranking: Literal["estimate"] | None = None
    error_bound: float | None = None
    confidence: float | None = None
    reranked: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The neighbours of one query as rows of a view, ascending by distance, then by id."""

    rows: NDArray[np.int64]
    distances: NDArray[np.int64]
    certificate: Certificate

    def with_count(self, within: int) -> Answer:
        """Return the same answer, with a certificate that says how many are within the radius."""
        truncated = within > len(self.rows)
        return replace(
            self, certificate=replace(self.certificate, within=within, truncated=truncated)
        )


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An item that a search found, with its Hamming distance.

    `score` is the distance by which it was reranked, or the estimated one by which it was ranked;
    None if there is neither. `code` is its packed code if the search asked for codes.
    `payload_json` is the payload as it is stored: compact JSON in
    UTF-8.
    """

    id: str
    distance: int
    label: int | None
    payload_json: bytes | None
    score: float | None = None
    code: bytes | None = None

    @property
    def payload(self) -> dict[str, Any] | None:
        """The payload, parsed at each call."""
        return _parsed(self.payload_json)


@dataclass(frozen=True, slots=True)
class Found:
    """The neighbours of one query, with the certificate of the search.

    `code` is the packed code of the query if the search asked for codes.
    """

    neighbours: list[Neighbour]
    certificate: Certificate
    code: bytes | None = None


def _parsed(payload: bytes | None) -> dict[str, Any] | None:
    parsed: dict[str, Any] | None = None if payload is None else json.loads(payload)
    return parsed
