"""Schemas of jobs and benchmarks."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.benchmark.neighbours.protocol import NeighbourProtocol
from app.benchmark.rows import NEIGHBOURS
from app.benchmark.splits import PROTOCOLS, Protocol
from app.http.schemas.fields import Integer, OfData, Seed, Text
from hashing import InvalidInput


class NewBenchmark(OfData):
    """A benchmark to run: methods and code lengths, on a dataset or a collection."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"dataset": "digits", "methods": ["raw", "lsh"], "bits": [16, 64]}]
        },
    )

    methods: list[Text] = Field(min_length=1, max_length=50)
    bits: list[Integer] = Field([12, 24, 48], min_length=1, max_length=50)
    protocol: Text = Field(
        "retrieval-59k",
        description="`retrieval-59k`, `unseen-classes` or `unseen-only`; or `neighbours`, which "
        "needs no labels.",
    )
    seed: Seed = 0
    seeds: list[Seed] | None = Field(
        None,
        min_length=1,
        max_length=20,
        description="Several seeds instead of `seed`: the result has mean and spread.",
    )
    queries_per_class: Integer = Field(100, ge=1, le=10**6)
    labels_per_class: Integer = Field(200, ge=1, le=10**6)
    queries: Integer | None = Field(
        None,
        ge=1,
        le=10**6,
        description="For `neighbours`: how many items to draw as queries, by default 1,000; a "
        "dataset's own come first.",
    )
    k: Integer | None = Field(
        None,
        ge=1,
        le=1000,
        description="For `neighbours`: how many true neighbours are to be found, by default 10.",
    )
    distance: Literal["euclidean", "cosine"] | None = Field(
        None,
        description="For `neighbours`: by which they are nearest; by default that of the "
        "dataset's own neighbours, or `euclidean`.",
    )

    @model_validator(mode="after")
    def _check_protocol(self) -> Self:
        of_labels, of_neighbours = (
            {"queries_per_class", "labels_per_class"},
            {"queries", "k", "distance"},
        )
        others = of_labels if self.protocol == NEIGHBOURS else of_neighbours
        if wrong := sorted(others & self.model_fields_set):
            needed = "a protocol with labels" if self.protocol == NEIGHBOURS else repr(NEIGHBOURS)
            raise ValueError(
                f"{', '.join(wrong)}: only for {needed}, and the protocol is {self.protocol!r:.80}"
            )
        return self

    def as_protocol(self) -> Protocol | NeighbourProtocol:
        """Return the protocol with its numbers; InvalidInput if there is none of this name."""
        if self.protocol != NEIGHBOURS:
            known = f"{', '.join(PROTOCOLS)}, {NEIGHBOURS}"
            if self.protocol not in PROTOCOLS:
                raise InvalidInput(f"there is no protocol {self.protocol!r:.80}; there are {known}")
            return Protocol(self.protocol, self.queries_per_class, self.labels_per_class)
        default = NeighbourProtocol()
        return NeighbourProtocol(
            self.queries or default.queries, self.k or default.k, self.distance
        )


class Accepted(BaseModel):
    """A job that was queued, and the URL of its state."""

    id: str
    url: str


class ProgressOut(BaseModel):
    """The progress of a job."""

    done: int
    of: int = Field(description="Number of steps in all.")
    now: str = Field(description="The current step.")
    seconds_left: float | None = Field(
        None,
        description="Estimate from the mean duration of the steps so far; null before the first "
        "has ended.",
    )


class JobOut(BaseModel):
    """A job. Times are in seconds since 1970."""

    id: str
    kind: str = Field(
        description="`training`, `benchmark`, `recommendation`, `explanation`, `reencoding` or "
        "`duplicates`."
    )
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    request: dict[str, Any]
    progress: ProgressOut | None = Field(None, description="Present while it is queued or runs.")
    result: dict[str, Any] | None = Field(
        None,
        description="Present once it is done. A cancelled benchmark has the rows that it measured "
        "before.",
    )
    error: str | None = Field(None, description="The reason, if it failed.")
    created: float
    started: float | None = None
    ended: float | None = None
