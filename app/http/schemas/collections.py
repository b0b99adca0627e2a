"""Schemas of collections and their snapshots."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from app.http.schemas.fields import Body, Condition, Integer, Text
from app.jobs.duplicates import MAX_PAIRS
from app.service.collections.collections import Ranking
from index import DescriptorType, Metric

_TYPES = get_args(DescriptorType)


def _as_choice(value: Any) -> Any:
    # 1 == True, also for a `Literal`.
    if not isinstance(value, bool) and value not in _TYPES:
        raise PydanticCustomError(
            "keep_descriptors",
            "Input should be true, false, {types}",
            {"types": " or ".join(map(repr, _TYPES))},
        )
    return value


KeepDescriptors = Annotated[
    bool | DescriptorType,
    PlainValidator(_as_choice, json_schema_input_type=bool | DescriptorType),
]


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
    keep_descriptors: KeepDescriptors = Field(
        False,
        description="Keep the descriptors on disk, for reranking and re-encoding: as float32, or "
        "as float16 in half the room. Items that float16 gives other codes are refused.",
    )
    ranking: Ranking = Field(
        "hamming",
        description="Rank items by the Hamming distance of codes, or by estimates of the distance "
        "of descriptors. Estimates need an encoder of method `rabitq`.",
    )
    metric: Metric | None = Field(
        None,
        description="With `ranking` `estimate`: the distance that is estimated. By default "
        "`cosine` if the encoder normalizes, else `euclidean`.",
    )


class FindDuplicates(Body):
    """Which items count as near-duplicates, and among which items to look for them."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"radius": 4}]})

    radius: Integer = Field(
        ge=0, le=2**31 - 1, description="Largest Hamming distance of a pair of near-duplicates."
    )
    filter: Condition | None = None
    max_pairs: Integer = Field(
        1_000_000,
        ge=1,
        le=MAX_PAIRS,
        description="Largest number of pairs to return. The groups are complete all the same.",
    )


class CollectionSettings(Body):
    """The settings of a collection that is to exist, as in `NewCollection`."""

    encoder: Text | None = None
    n_bits: Integer | None = None
    keep_descriptors: KeepDescriptors = False
    ranking: Ranking = "hamming"
    metric: Metric | None = None


class Reencode(Body):
    """The encoder that is to encode a collection from now on, and how it ranks then."""

    encoder: Text
    ranking: Ranking | None = Field(
        None,
        description="As for a new collection; by default as before.",
    )
    metric: Metric | None = Field(
        None,
        description="With `ranking` `estimate`, as for a new collection; by default as before.",
    )


class Restore(Body):
    """The snapshot to restore: the name of a file in `snapshots/` of the data directory."""

    snapshot: Text
    encoder: Text | None = Field(
        None,
        description="Name of the encoder, which is created if there is none of that name; by "
        "default its name in the snapshot.",
    )


class SnapshotOut(BaseModel):
    """A snapshot: the name of a file in `snapshots/` of the data directory."""

    snapshot: str
    items: int
    removed: list[str] | None = Field(
        None, description="The snapshots that were deleted, if `keep` was given."
    )


class SnapshotFileOut(BaseModel):
    """A file in `snapshots/` of the data directory."""

    snapshot: str
    bytes: int
    created: float = Field(description="When it was written, in seconds since 1970.")


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
    descriptor_type: DescriptorType | None = Field(
        None, description="How descriptors are kept; null if they are not."
    )
    ranking: Ranking = "hamming"
    metric: Metric | None = Field(
        None, description="The distance that is estimated; null if items are not ranked by it."
    )
