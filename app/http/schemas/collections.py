"""Schemas of collections and their snapshots."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.http.schemas.fields import Body, Integer, Text
from app.jobs.duplicates import MAX_PAIRS


class NewCollection(Body):
    """A collection to create, for the codes of one encoder."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "things", "encoder": "mine"}]}
    )

    name: Text
    encoder: Text
    keep_descriptors: bool = Field(
        False,
        description="Keep the descriptors on disk as float16, for reranking and re-encoding.",
    )


class FindDuplicates(Body):
    """Which items count as near-duplicates, and among which items to look for them."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"radius": 4}]})

    radius: Integer = Field(
        ge=0, le=2**31 - 1, description="Largest Hamming distance of a pair of near-duplicates."
    )
    filter: dict[str, JsonValue] | None = Field(
        None, description="Compare only the items that match, as in a query."
    )
    max_pairs: Integer = Field(
        1_000_000,
        ge=1,
        le=MAX_PAIRS,
        description="Largest number of pairs to return. The groups are complete all the same.",
    )


class Reencode(Body):
    """The encoder that is to encode a collection from now on."""

    encoder: Text


class Restore(Body):
    """The snapshot to restore: the name of a file in `snapshots/` of the data directory."""

    snapshot: Text


class SnapshotOut(BaseModel):
    """A snapshot: the name of a file in `snapshots/` of the data directory."""

    snapshot: str
    items: int


class CollectionOut(BaseModel):
    """A collection."""

    name: str
    encoder: str
    fingerprint: str = Field(description="Fingerprint of the encoder that made its codes.")
    n_bits: int
    items: int = Field(description="Number of items.")
    keep_descriptors: bool
