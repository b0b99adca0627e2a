"""The answers to queries, as plain frozen dataclasses with the field names of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bitcell_client import display


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Neighbour(display.Result):
    """A neighbour of a query.

    `distance` is the Hamming distance, `score` what the neighbour was reranked by, or the
    estimated distance that it is ranked by, `code` the
    packed code in hex, if asked for. `angle` is the angle to the query in radians that the distance
    means, with the ends of its interval, in a calibrated answer. What there is none of is None.
    """

    id: str
    distance: int
    label: int | None = None
    payload: dict[str, Any] | None = None
    score: float | None = None
    code: str | None = None
    angle: float | None = None
    angle_low: float | None = None
    angle_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Calibration(display.Result):
    """What the angles of an answer rest on.

    `law` is "pairs" if the angles were measured on pairs of items, whose number is `pairs`, and
    "binomial" if the law of random hyperplanes gives them. `level` is the share of pairs
    whose angle is in the interval.
    """

    law: Literal["binomial", "pairs"]
    level: float
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FalseMatches(display.Result):
    """The radius that a rate of false matches allows, and what it rests on.

    Attributes
    ----------
    radius : int
    rate : float
        Share of the unrelated pairs that match within the radius.
    bound : float
        Upper bound on that share among all pairs, at 95 % confidence.
    pairs : int
        Number of unrelated pairs used.
    unrelated : {"labels", "random"}
        "labels" if they have different labels; "random" if there are no labels, so that any pair
        of items counts as unrelated.
    """

    radius: int
    rate: float
    bound: float
    pairs: int
    unrelated: Literal["labels", "random"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Certificate(display.Result):
    """What an answer rests on: the search, before `offset` and `rerank` pick from it.

    Attributes
    ----------
    exact : bool
        No item that the filter allows and that was not found is nearer.
    radius : int
        Every code that the filter allows within this distance was looked at.
    looked : int, optional
        How many codes were looked at; None if the index of the service is in Milvus.
    tie : int, optional
        How many items lie at the distance of the last one found; None if the index of the service
        is in Milvus and they are more than 16,384.
    within : int, optional
        How many items lie within the `radius` of the query. None for a query without a radius, and
        if the search ended at the `k` of the query.
    truncated : bool, optional
        Whether fewer were found than lie within that radius. None if `within` is.
    ranking : "estimate", optional
        "estimate" where items are ranked by estimated distances; None for the Hamming distance.
    error_bound : float, optional
        How far the distances of the items found are from the estimates, at most: for about 94 % of
        them.
    confidence : float, optional
        With which probability each true neighbour is found, if the query asked for one; `exact`
        says whether it is certain.
    reranked : int, optional
        How many items were compared by their descriptors for that.
    calibration : Calibration, optional
        What the angles rest on, in a calibrated answer.
    false_matches : FalseMatches, optional
        The radius, and the pairs it rests on, if the query asked for a rate of false matches.
    """

    exact: bool
    radius: int
    looked: int | None
    tie: int | None
    within: int | None = None
    truncated: bool | None = None
    ranking: str | None = None
    error_bound: float | None = None
    confidence: float | None = None
    reranked: int | None = None
    calibration: Calibration | None = None
    false_matches: FalseMatches | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class QueryResult(display.Neighbours):
    """The neighbours and the certificate of each query, in the order of the queries.

    Neighbours are in ascending order of distance, then of id. `codes` are those of the queries,
    in hex, if asked for.
    """

    results: list[list[Neighbour]]
    certificates: list[Certificate]
    codes: list[str] | None = None
