"""Schemas of collections and their snapshots."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from app.http.schemas.fields import Body, Text


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


class CollectionSettings(Body):
    """The settings of a collection that is to exist."""

    encoder: Text
    keep_descriptors: bool = False


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
