"""Schemas of datasets."""

from __future__ import annotations

from pydantic import BaseModel, Field


class DatasetOut(BaseModel):
    """A dataset: a file in `datasets/` of the data directory, or `digits`, which is built in."""

    dataset: str
    bytes: int | None = Field(description="Null for the one that is built in, as is `created`.")
    created: float | None = Field(description="When it was written, in seconds since 1970.")


class UploadedDatasetOut(DatasetOut):
    """A dataset that has just been uploaded, and what it holds."""

    items: int
    dimension: int
    labelled: int = Field(description="Number of items with a label.")
    classes: int = Field(description="Number of different labels.")
    queries: int = Field(description="Number of queries of its own, which are not items.")
