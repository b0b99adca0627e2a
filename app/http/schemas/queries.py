"""Schemas of queries and their answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from app.http.schemas.fields import (
    Body,
    Condition,
    Descriptors,
    HexCodes,
    Id,
    Integer,
    Number,
    UrlBoolean,
    UrlInteger,
    UrlNumber,
)

Holds = Literal["descriptors", "codes"]
RerankBy = Literal["descriptors", "cosine", "bits"]
MAX_RADIUS = 2**31 - 2
# Chosen by the type of the value, so that an error is about what was meant: a string is a code that
# should be in a list.
_FlagOrCodes = Annotated[
    Annotated[bool, Tag("flag")] | Annotated[HexCodes, Tag("hex")],
    Discriminator(lambda value: "hex" if isinstance(value, list | str) else "flag"),
]


class Query(Body):
    """A search for the neighbours of descriptors, of items of the collection, or of codes."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"ids": ["digit-0007"], "k": 5}]}
    )

    descriptors: Descriptors | None = None
    ids: Annotated[list[Id], Field(fail_fast=True, min_length=1)] | None = None
    k: Integer | None = Field(
        None,
        ge=1,
        description="Neighbours per query. Defaults to 10, or with a radius to the largest "
        "allowed number.",
    )
    radius: Integer | None = Field(
        None, ge=0, le=MAX_RADIUS, description="Largest Hamming distance of a neighbour."
    )
    false_match_rate: Number | None = Field(
        None,
        ge=1e-6,
        lt=1,
        description="In place of `radius`: the largest radius at which at most this share of "
        "unrelated pairs of items match. The certificate states it.",
    )
    calibrated: bool = Field(
        False,
        description="Whether to return the angle that each distance means, with an interval.",
    )
    max_score: Number | None = Field(
        None,
        description="In a collection that ranks by estimates: the largest estimated distance of a "
        "neighbour.",
    )
    payloads: bool = Field(True, description="Whether to return payloads.")
    codes: _FlagOrCodes = Field(
        False,
        description="Codes to find neighbours of, in hex; or true, which is the same as "
        "`return_codes`.",
    )
    return_codes: bool = Field(
        False, description="Whether to return the codes of queries and neighbours."
    )
    offset: Integer = Field(0, ge=0, description="Number of nearest neighbours to skip.")
    filter: Condition | None = None
    rerank: Integer | None = Field(
        None,
        ge=1,
        description="Number of nearest neighbours by Hamming distance to reorder by `rerank_by`.",
    )
    rerank_by: RerankBy | None = Field(
        None,
        description=(
            "`descriptors`: Euclidean distance to the kept descriptors; the default if the "
            "collection keeps them. `cosine`: one minus the cosine with them. `bits`: asymmetric "
            "distance between the query's projection and the codes."
        ),
    )
    confidence: Number | None = Field(
        None,
        ge=0.5,
        lt=1,
        description="In a collection that keeps descriptors: compare as many of them as it takes "
        "to find each true neighbour with this probability. Where items are ranked by the Hamming "
        "distance, how many is measured on the items.",
    )


class QueryInUrl(Body):
    """The URL parameters of a query whose body is npy or an image."""

    model_config = ConfigDict(strict=False)  # Every value in a URL is text.

    holds: Holds | None = Field(
        None,
        description="What an npy body holds. By default, what the collection takes: descriptors if "
        "it has an encoder, else codes.",
    )
    k: UrlInteger | None = Field(
        None,
        ge=1,
        description="For npy and image bodies only. A JSON body holds this and the other "
        "parameters itself.",
    )
    radius: UrlInteger | None = Field(None, ge=0, le=MAX_RADIUS, description="See `k`.")
    false_match_rate: UrlNumber | None = Field(None, ge=1e-6, lt=1, description="See `k`.")
    calibrated: UrlBoolean = Field(False, description="See `k`.")
    max_score: UrlNumber | None = Field(None, description="See `k`.")
    payloads: UrlBoolean = Field(True, description="See `k`.")
    codes: UrlBoolean = Field(False, description="The same as `return_codes`.")
    return_codes: UrlBoolean = Field(False, description="See `k`.")
    offset: UrlInteger = Field(0, ge=0, description="See `k`.")
    rerank: UrlInteger | None = Field(None, ge=1, description="See `k`.")
    rerank_by: RerankBy | None = Field(None, description="See `k`.")
    confidence: UrlNumber | None = Field(None, ge=0.5, lt=1, description="See `k`.")


class NeighbourOut(BaseModel):
    """A neighbour. Optional fields without a value are omitted."""

    id: str
    distance: int = Field(description="Hamming distance.")
    label: int | None = None
    payload: dict[str, Any] | None = None
    score: float | None = Field(
        None, description="The distance it was reranked by, or the estimated one it is ranked by."
    )
    code: str | None = Field(None, description="Packed code in hex, if requested.")
    angle: float | None = Field(
        None,
        description="With `calibrated`: the angle to the query that this distance means, in "
        "radians, seen from the mean of the descriptors.",
    )
    angle_low: float | None = Field(None, description="The lower end of its interval.")
    angle_high: float | None = Field(None, description="The upper end of its interval.")


class CalibrationOut(BaseModel):
    """What the angles of an answer rest on."""

    law: Literal["binomial", "pairs"] = Field(
        description="`pairs` if pairs of items were measured; `binomial` if the law of random "
        "hyperplanes gives the angles."
    )
    level: float = Field(description="Share of pairs whose angle is within the interval.")
    pairs: int = Field(description="Number of pairs that were measured; 0 for the law.")


class FalseMatchesOut(BaseModel):
    """The radius that a rate of false matches allows, and what it rests on."""

    radius: int = Field(description="The radius of the query.")
    rate: float = Field(description="Share of the unrelated pairs that match within the radius.")
    bound: float = Field(
        description="Upper bound on that share among all pairs, at 95 % confidence: at most what "
        "was asked for."
    )
    pairs: int = Field(description="Number of unrelated pairs used.")
    unrelated: Literal["labels", "random"] = Field(
        description="`labels` if they are pairs of different labels; `random` if there are no "
        "labels, so that any pair of items counts as unrelated."
    )


class CertificateOut(BaseModel):
    """What an answer rests on. It describes the search before `offset` and `rerank`."""

    exact: bool = Field(
        description="No item that passes the filter and was not found is nearer than those found."
    )
    radius: int = Field(
        description="Every code within this distance that passes the filter was examined."
    )
    looked: int | None = Field(
        description="Number of codes examined; null for an index in Milvus, which does not say."
    )
    tie: int | None = Field(
        description="Number of items at the distance of the last one found; null for an index in "
        "Milvus if they are more than 16,384."
    )
    within: int | None = Field(
        None,
        description="With a `radius`: number of items within it. Omitted if the search ended at "
        "the `k` of the request, and so did not count the others.",
    )
    truncated: bool | None = Field(
        None,
        description="Whether fewer items were found than are `within` the radius, since one search "
        "finds no more. Omitted if `within` is.",
    )
    ranking: Literal["estimate"] | None = Field(
        None,
        description="`estimate` if items are ranked by estimated distances, which `exact`, `tie` "
        "and `within` are then about. Omitted for the Hamming distance.",
    )
    error_bound: float | None = Field(
        None,
        description="With `ranking`: how far the distances of the items found are from the "
        "estimates, at most. It holds for about 94 % of them.",
    )
    confidence: float | None = Field(
        None,
        description="The `confidence` of the query: with which probability each true neighbour is "
        "found. `exact` says whether it is certain.",
    )
    reranked: int | None = Field(
        None, description="With `confidence`: number of items compared by their descriptors."
    )
    calibration: CalibrationOut | None = Field(
        None, description="With `calibrated`: what the angles rest on."
    )
    false_matches: FalseMatchesOut | None = Field(
        None, description="With `false_match_rate`: the radius, and the pairs that it rests on."
    )


class QueryOut(BaseModel):
    """For each query, its neighbours by distance and then id, and its certificate."""

    results: list[list[NeighbourOut]]
    certificates: list[CertificateOut]
    codes: list[str] | None = Field(None, description="Codes of the queries in hex, if requested.")
