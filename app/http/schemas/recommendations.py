"""Schemas of recommendations."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from app.http.schemas.fields import Body, Integer, Number, OfData, Seed, Text
from app.recommend.goal import RERANK, Goal, K, check_rerank
from app.recommend.pool import LENGTHS


class NewRecommendation(OfData):
    """Data, and one goal: `within`, `recall` or `bytes`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"dataset": "digits", "within": 2}]},
    )

    within: Number | None = Field(
        None,
        ge=0,
        le=100,
        description="The smallest code whose mAP is at most this many points below that of the "
        "descriptors. It needs labels.",
    )
    recall: Number | None = Field(
        None,
        gt=0,
        lt=1,
        description="The smallest code with which this share of the true neighbours is found.",
    )
    bytes: Integer | None = Field(
        None, ge=1, le=512, description="The best code of at most this many bytes per item."
    )
    k: Integer = Field(K, ge=1, le=1000, description="How many true neighbours are to be found.")
    rerank: Integer = Field(
        RERANK,
        ge=0,
        le=10_000,
        description="How many items are ranked again by their descriptors, at least `k`, or 0 for "
        "none; for recall.",
    )
    distance: Literal["euclidean", "cosine"] | None = Field(
        None,
        description="The distance of descriptors; by default that of the dataset's own "
        "neighbours, or `euclidean`.",
    )
    methods: list[Text] | None = Field(
        None,
        min_length=1,
        max_length=50,
        description="By default those that learn in seconds; nets take part only if named.",
    )
    max_bits: Integer = Field(
        LENGTHS[-1], ge=LENGTHS[0], le=LENGTHS[-1], description="The longest code to try."
    )
    seconds: Number | None = Field(
        None,
        gt=0,
        le=10**6,
        description="No further candidate is tried after this many seconds; by default 90, or no "
        "limit if a net takes part.",
    )
    items: Integer | None = Field(
        None,
        ge=100,
        le=10**9,
        description="Items of the sample that is measured, at most: by default 10,000 with labels, "
        "and 100,000 without.",
    )
    seed: Seed = 0

    @model_validator(mode="after")
    def _check_one_goal(self) -> Self:
        if [self.within, self.recall, self.bytes].count(None) != 2:
            raise ValueError("expected one of within, recall and bytes")
        if self.within is None:
            check_rerank(self.k, self.rerank)
        return self

    def as_goal(self) -> Goal:
        """Return the goal."""
        return Goal(self.within, self.recall, self.bytes, self.k, self.rerank, self.distance)

    def limits(self) -> dict[str, Any]:
        """Return what limits the search."""
        names = ("methods", "max_bits", "seconds", "items", "seed")
        return {name: getattr(self, name) for name in names}


class ToMake(Body):
    """The name of the encoder and of the collection to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "small"}]})

    name: Text
