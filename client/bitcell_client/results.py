"""The answers of the service, as plain frozen dataclasses with the field names of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

RerankBy = Literal["descriptors", "bits"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """An encoder; `fingerprint` is the SHA-256 of everything that decides its codes."""

    name: str
    method: str
    n_bits: int
    dimension: int
    params: dict[str, Any]
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A hashing method.

    A `data_free` method needs only a dimension. `needs_torch` is about training, not encoding.
    """

    method: str
    data_free: bool
    needs_labels: bool
    needs_torch: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A collection; `items` is how many it holds, `fingerprint` that of its encoder.

    Encoder and fingerprint are None if it holds codes of the caller's own.
    """

    name: str
    encoder: str | None
    fingerprint: str | None
    n_bits: int
    items: int
    keep_descriptors: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot: a file in `snapshots/` of the data directory, and its number of items."""

    snapshot: str
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BitPair:
    """Two bits and their correlation."""

    bits: tuple[int, int]
    correlation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BitStatistics:
    """How well a collection's codes use their bits.

    Attributes
    ----------
    looked : int
        How many items this rests on: all of them, or a random sample.
    ones : list of float
        The share of ones of each bit.
    constant : int
        How many bits are the same in every code.
    mean_correlation : float
        Mean of |r| over all pairs of bits.
    most_correlated : list of BitPair
        The pairs with the largest |r|.
    heat_map : list of list of float
        |r| of each bit with each bit; for codes above 64 bits, means over 64 x 64 cells.
    """

    looked: int
    ones: list[float]
    constant: int
    mean_correlation: float
    most_correlated: list[BitPair]
    heat_map: list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSizes:
    """How many codes are shared by `least` to `most` items, and how many items those are."""

    least: int
    most: int
    codes: int
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketStatistics:
    """How many items share a code.

    Attributes
    ----------
    looked : int
        How many items this rests on: all of them, or a random sample.
    codes : int
        Number of distinct codes.
    largest : int
        Number of items of the most frequent code.
    sizes : list of BucketSizes
        The distribution of bucket sizes.
    """

    looked: int
    codes: int
    largest: int
    sizes: list[BucketSizes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Statistics of a collection's codes; `bits` and `buckets` are None while it is empty."""

    items: int
    n_bits: int
    bits: BitStatistics | None
    buckets: BucketStatistics | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upserted:
    """The number of items written, and the number that the collection now holds."""

    upserted: int
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """The number of items deleted."""

    deleted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A stored item; `code` is its packed code in hex."""

    id: str
    code: str
    label: int | None = None
    payload: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPage:
    """A page of the items of a collection; `of` is how many it holds in all."""

    items: list[Item]
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A neighbour of a query.

    `distance` is the Hamming distance, `score` what the neighbour was reranked by, `code` the
    packed code in hex, if asked for. What there is none of is None.
    """

    id: str
    distance: int
    label: int | None = None
    payload: dict[str, Any] | None = None
    score: float | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What an answer rests on: the search, before `offset` and `rerank` pick from it.

    Attributes
    ----------
    exact : bool
        No item that the filter allows and that was not found is nearer.
    radius : int
        Every code that the filter allows within this distance was looked at.
    looked : int
        How many codes were looked at.
    tie : int
        How many items lie at the distance of the last one found.
    within : int, optional
        How many items lie within the `radius` of the query. None for a query without a radius, and
        if the search ended at the `k` of the query.
    truncated : bool, optional
        Whether fewer were found than lie within that radius. None if `within` is.
    """

    exact: bool
    radius: int
    looked: int
    tie: int
    within: int | None = None
    truncated: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """The neighbours and the certificate of each query, in the order of the queries.

    Neighbours are in ascending order of distance, then of id. `codes` are those of the queries,
    in hex, if asked for.
    """

    results: list[list[Neighbour]]
    certificates: list[Certificate]
    codes: list[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A job that was started, and the path to ask for its state."""

    id: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is: `done` steps `of` all, what it does `now`, and the time left.

    `seconds_left` assumes that each step takes as long as those before; it is None before the
    first step ends.
    """

    done: int
    of: int
    now: str
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job; times are seconds since 1970.

    `kind` is `training`, `benchmark` or `reencoding`. `progress` is there while it waits or runs,
    `result` when it is done, `error` when it failed.
    """

    id: str
    kind: str
    state: JobState
    request: dict[str, Any]
    progress: Progress | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    created: float
    started: float | None = None
    ended: float | None = None
