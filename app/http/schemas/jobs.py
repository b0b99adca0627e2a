"""Schemas of jobs and benchmarks."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.http.schemas.fields import Body, Integer, Seed, Text


class NewBenchmark(Body):
    """A benchmark to run: methods and code lengths, on a dataset or a collection."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"dataset": "digits", "methods": ["raw", "lsh"], "bits": [16, 64]}]
        },
    )

    dataset: Text | None = Field(None, description="Name of a dataset, such as `digits`.")
    collection: Text | None = Field(
        None, description="Name of a collection that keeps its descriptors."
    )
    methods: list[Text] = Field(min_length=1, max_length=50)
    bits: list[Integer] = Field([12, 24, 48], min_length=1, max_length=50)
    protocol: Text = Field(
        "retrieval-59k", description="`retrieval-59k`, `unseen-classes` or `unseen-only`."
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

    @model_validator(mode="after")
    def _check_one_source(self) -> Self:
        if (self.dataset is None) == (self.collection is None):
            raise ValueError("expected one of dataset and collection")
        return self


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
    kind: str = Field(description="`training`, `benchmark`, `reencoding` or `duplicates`.")
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
