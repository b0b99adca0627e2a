"""Schemas of explanations."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from app.explain.laws import ITEMS, LAWS, LEAST_ITEMS
from app.http.schemas.fields import Integer, OfData, Seed, Text

MAX_ITEMS = 100_000
"""Largest sample: the distances between all of its items are computed."""


class NewExplanation(OfData):
    """What to explain: a dataset or a collection, and by which laws."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"dataset": "digits", "laws": ["width", "privacy"]}]},
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
