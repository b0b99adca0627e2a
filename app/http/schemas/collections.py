"""Schemas of collections and their snapshots."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from app.http.schemas.fields import Body, Integer, Text


class NewCollection(Body):
    """A collection to create, for the codes of one encoder or for given codes."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "things", "encoder": "mine"}, {"name": "hashes", "n_bits": 256}]
        },
    )

    name: Text
    encoder: Text | None = Field(None, description="The encoder that makes the codes.")
    n_bits: Integer | None = Field(
        None,
        description="In place of `encoder`: the length, 1 to 4,096, of codes that items and "
        "queries come with.",
    )
    keep_descriptors: bool = Field(
        False,
        description="Keep the descriptors on disk as float16, for reranking and re-encoding.",
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
    encoder: str | None = Field(description="Null if its codes are given.")
    fingerprint: str | None = Field(
        description="Fingerprint of the encoder that made its codes; null if they are given."
    )
    n_bits: int
    items: int = Field(description="Number of items.")
    keep_descriptors: bool
