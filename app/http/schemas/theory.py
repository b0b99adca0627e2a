"""Schemas of explanations."""

from __future__ import annotations

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from app.explain.laws import ITEMS, LAWS, LEAST_ITEMS
from app.http.schemas.fields import Body, Integer, Seed, Text

MAX_ITEMS = 100_000
"""Largest sample: the distances between all of its items are computed."""


class NewExplanation(Body):
    """What to explain: a dataset or a collection, and by which laws."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"dataset": "digits", "laws": ["width", "privacy"]}]},
    )

    dataset: Text | None = Field(None, description="Name of a dataset, such as `digits`.")
    collection: Text | None = Field(
        None, description="Name of a collection that keeps its descriptors."
    )
    laws: list[Text] | None = Field(
        None, max_length=50, description=f"Some of {', '.join(LAWS)}; by default all."
    )
    encoder: Text | None = Field(
        None,
        description="Name of an encoder to compare with random ones; by default `sdh` is trained, "
        "where there are labels.",
    )
    items: Integer = Field(
        ITEMS, ge=LEAST_ITEMS, le=MAX_ITEMS, description="Items of the sample, at most."
    )
    seed: Seed = 0

    @model_validator(mode="after")
    def _check_one_source(self) -> Self:
        if (self.dataset is None) == (self.collection is None):
            raise ValueError("expected one of dataset and collection")
        return self
