"""What goes in and out, for pydantic and for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, JsonValue, model_validator

Number = Annotated[float, Field(strict=True)]
Integer = Annotated[int, Field(strict=True)]
Label = Annotated[int, Field(strict=True, ge=-1, le=2**63 - 1)]
Seed = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
Text = Annotated[str, Field(strict=True)]
RerankBy = Literal["descriptors", "bits"]
# The first wrong element ends the reading: one error an element would fill the memory.
Numbers = Annotated[list[Number], Field(fail_fast=True)]
Descriptors = Annotated[
    list[Numbers],
    Field(fail_fast=True, min_length=1, description="One list of numbers a descriptor."),
]


class Body(BaseModel):
    """A request body: unknown fields are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid")


class Training(Body):
    """What to fit on: descriptors, or a dataset or a collection of the service."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"dataset": "digits"}]}
    )

    descriptors: Descriptors | None = None
    labels: Annotated[list[Label], Field(fail_fast=True)] | None = Field(
        None, description="One a descriptor, -1 for unlabelled."
    )
    dataset: Text | None = Field(None, description="A name, such as `digits`.")
    collection: Text | None = Field(None, description="One that keeps its descriptors.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = (self.descriptors, self.dataset, self.collection)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("expected one of descriptors, dataset and collection")
        if self.labels is not None and self.descriptors is None:
            raise ValueError("labels go with descriptors; datasets and collections have their own")
        return self


class NewEncoder(Body):
    """An encoder to be fitted, or for a data-free method made for a dimension."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "mine", "method": "lsh", "n_bits": 64, "dimension": 384}]
        },
    )

    name: Text
    method: Text = Field(description="A method, such as `lsh`.")
    n_bits: Integer = Field(description="Code length.")
    params: dict[str, JsonValue] = Field({}, description="Further parameters of the method.")
    training: Training | None = None
    dimension: Integer | None = Field(
        None, description="In place of training: nothing is then centred or scaled."
    )


class EncoderOut(BaseModel):
    """An encoder."""

    name: str
    method: str
    n_bits: int
    dimension: int
    params: dict[str, Any]
    fingerprint: str = Field(description="SHA-256 of all that decides its codes.")


class ToEncode(Body):
    """Descriptors to be encoded."""

    descriptors: Descriptors


class CodesOut(BaseModel):
    """Packed codes in hex: bit 0 is the highest bit of the first byte."""

    codes: list[str]
    n_bits: int


class Images(Body):
    """Image files to be described."""

    images: Annotated[
        list[Base64Bytes],
        Field(fail_fast=True, min_length=1, description="PNG, JPEG, WebP, GIF or BMP, in base64."),
    ]


class DescriptorsOut(BaseModel):
    """GIST descriptors, one an image."""

    descriptors: list[list[float]]


class NewCollection(Body):
    """A collection for the codes of an encoder."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "things", "encoder": "mine"}]}
    )

    name: Text
    encoder: Text
    keep_descriptors: bool = Field(
        False, description="As float16 on disk, to rerank by and to encode anew."
    )


class Reencode(Body):
    """The encoder that is to make the codes of a collection from now on."""

    encoder: Text


class Restore(Body):
    """A snapshot to make a collection of: a file in `snapshots/` of the data directory."""

    snapshot: Text


class SnapshotOut(BaseModel):
    """A snapshot: a file in `snapshots/` of the data directory."""

    snapshot: str
    items: int


class CollectionOut(BaseModel):
    """A collection."""

    name: str
    encoder: str
    fingerprint: str = Field(description="Of the encoder that made its codes.")
    n_bits: int
    items: int = Field(description="How many items it holds.")
    keep_descriptors: bool


class PairOut(BaseModel):
    """Two bits and how much they say the same."""

    bits: tuple[int, int]
    correlation: float


class BitsOut(BaseModel):
    """How well the bits are used: best where each is one half the time and no two go together."""

    looked: int = Field(description="How many items this rests on: all, or a random sample.")
    ones: list[float] = Field(description="The share of ones of each bit.")
    constant: int = Field(description="Bits that are the same in every code: they say nothing.")
    mean_correlation: float = Field(description="Mean of |r| over all pairs of bits.")
    most_correlated: list[PairOut] = Field(description="The pairs of the largest |r|.")
    heat_map: list[list[float]] = Field(
        description="|r| of bit with bit; of codes above 64 bits the means of 64 x 64 cells."
    )


class SizesOut(BaseModel):
    """Codes that `least` to `most` items have."""

    least: int
    most: int
    codes: int
    items: int = Field(description="How many items those codes have together.")


class BucketsOut(BaseModel):
    """How many items share a code."""

    looked: int = Field(description="How many items this rests on: all, or a random sample.")
    codes: int = Field(description="Distinct codes.")
    largest: int = Field(description="Items of the code that most have.")
    sizes: list[SizesOut]


class StatisticsOut(BaseModel):
    """The codes of a collection; `bits` and `buckets` are null while it is empty."""

    items: int
    n_bits: int
    bits: BitsOut | None
    buckets: BucketsOut | None


class MethodOut(BaseModel):
    """A method that makes encoders."""

    method: str
    data_free: bool = Field(description="Needs no more than a dimension.")
    needs_labels: bool
    needs_torch: bool = Field(description="To be trained; not to encode.")


class NewItem(Body):
    """An item: its descriptor is encoded, not kept."""

    id: Text
    descriptor: Annotated[list[Number], Field(fail_fast=True, min_length=1)]
    label: Label | None = None
    payload: dict[str, JsonValue] | None = Field(None, description="Any JSON object.")


class NewItems(Body):
    """Items to insert, or to replace where the id is there."""

    items: Annotated[list[NewItem], Field(fail_fast=True)] = Field(min_length=1)


class Upserted(BaseModel):
    """What an upsert did; by now it is on disk."""

    upserted: int
    items: int = Field(description="How many items the collection holds now.")


class ItemOut(BaseModel):
    """An item as it is stored."""

    id: str
    code: str = Field(description="Packed code in hex.")
    label: int | None = None
    payload: dict[str, Any] | None = None


class ItemsOut(BaseModel):
    """Some of the items of a collection."""

    items: list[ItemOut]
    of: int = Field(description="How many there are in all.")


class Ids(Body):
    """Ids of items."""

    ids: Annotated[list[Text], Field(fail_fast=True)] = Field(min_length=1)


class Deleted(BaseModel):
    """How many of the ids were there."""

    deleted: int


class Query(Body):
    """What to find neighbours of: descriptors, or items of the collection."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"ids": ["digit-0007"], "k": 5}]}
    )

    descriptors: Descriptors | None = None
    ids: Annotated[list[Text], Field(fail_fast=True, min_length=1)] | None = None
    k: Integer | None = Field(
        None, ge=1, description="Neighbours a query: 10, or with a radius as many as are allowed."
    )
    radius: Integer | None = Field(
        None, ge=0, le=2**31 - 2, description="Nothing at a greater Hamming distance."
    )
    payloads: bool = Field(True, description="Whether payloads are returned.")
    codes: bool = Field(False, description="Whether codes are returned, of queries and neighbours.")
    offset: Integer = Field(0, ge=0, description="How many of the nearest to leave out.")
    filter: dict[str, JsonValue] | None = Field(
        None,
        description=(
            'Only items that match: `{"label": 3}`, `{"price": {"gte": 1, "lt": 5}}`, '
            '`{"a.b": {"in": ["x", "y"]}}`; several fields in one object are all to match, and '
            "`and`, `or`, `not` combine such objects. Exact like any search."
        ),
        examples=[{"label": {"in": [1, 2]}, "not": {"colour": "red"}}],
    )
    rerank: Integer | None = Field(
        None, ge=1, description="Take so many by Hamming distance and order them anew."
    )
    rerank_by: RerankBy | None = Field(
        None,
        description=(
            "`descriptors`: Euclidean distance to those that are kept, the default where they are. "
            "`bits`: asymmetric distance of the query's projection to the codes."
        ),
    )


class QueryInUrl(Body):
    """What stands in the URL of a query in npy or by an image."""

    k: int | None = Field(
        None,
        ge=1,
        description="With npy or an image; in JSON it stands in the body, as do the others.",
    )
    radius: int | None = Field(None, ge=0, le=2**31 - 2, description="As k.")
    payloads: bool = Field(True, description="As k.")
    codes: bool = Field(False, description="As k.")
    offset: int = Field(0, ge=0, description="As k.")
    rerank: int | None = Field(None, ge=1, description="As k.")
    rerank_by: RerankBy | None = Field(None, description="As k.")


class NeighbourOut(BaseModel):
    """A neighbour; what is optional is left out where there is none."""

    id: str
    distance: int = Field(description="Hamming distance.")
    label: int | None = None
    payload: dict[str, Any] | None = None
    score: float | None = Field(None, description="What it was reranked by.")
    code: str | None = Field(None, description="Packed code in hex, if asked for.")


class CertificateOut(BaseModel):
    """What an answer rests on: of the search, before `offset` and `rerank` pick from it."""

    exact: bool = Field(
        description="Of what the filter allows, no item that was not found is nearer."
    )
    radius: int = Field(
        description="Of what the filter allows, every code within this distance was looked at."
    )
    looked: int = Field(description="How many codes were looked at.")
    tie: int = Field(description="How many items lie at the distance of the last one found.")


class QueryOut(BaseModel):
    """Neighbours of each query, ascending by distance, then by id; and what proves each."""

    results: list[list[NeighbourOut]]
    certificates: list[CertificateOut]
    codes: list[str] | None = Field(None, description="Of the queries, in hex, if asked for.")


class NewBenchmark(Body):
    """A benchmark of methods on a dataset or a collection of the service."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"dataset": "digits", "methods": ["raw", "lsh"], "bits": [16, 64]}]
        },
    )

    dataset: Text | None = Field(None, description="A name, such as `digits`.")
    collection: Text | None = Field(None, description="One that keeps its descriptors.")
    methods: list[Text] = Field(min_length=1, max_length=50)
    bits: list[Integer] = Field([12, 24, 48], min_length=1, max_length=50)
    protocol: Text = Field("retrieval-59k", description="Or `unseen-classes`.")
    seed: Seed = 0
    seeds: list[Seed] | None = Field(
        None, min_length=1, max_length=20, description="In place of `seed`: mean and spread."
    )
    queries_per_class: Integer = Field(100, ge=1, le=10**6)
    labels_per_class: Integer = Field(200, ge=1, le=10**6)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.dataset is None) == (self.collection is None):
            raise ValueError("expected one of dataset and collection")
        return self


class Accepted(BaseModel):
    """What runs in the background, and where to ask after it."""

    id: str
    url: str


class ProgressOut(BaseModel):
    """How far a job is."""

    done: int
    of: int = Field(description="Steps in all.")
    now: str = Field(description="What runs now.")
    seconds_left: float | None = Field(
        None, description="If each step takes as long as those before; null before the first."
    )


class JobOut(BaseModel):
    """A job. Times are seconds since 1970."""

    id: str
    kind: str = Field(description="`training`, `benchmark` or `reencoding`.")
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    request: dict[str, Any]
    progress: ProgressOut | None = Field(None, description="Of one that waits or runs.")
    result: dict[str, Any] | None = Field(None, description="Of one that is done.")
    error: str | None = Field(None, description="Why it failed.")
    created: float
    started: float | None = None
    ended: float | None = None


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What was expected and what came.")
