"""Schemas of encoders and methods, and of what encoders and GIST return."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    JsonValue,
    model_validator,
)

from app.http.schemas.fields import Body, Descriptors, Integer, Label, Text, UrlInteger


class Training(Body):
    """The data to fit on: descriptors in the request, a dataset or a collection."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"dataset": "digits"}]}
    )

    descriptors: Descriptors | None = None
    labels: Annotated[list[Label], Field(fail_fast=True)] | None = Field(
        None, description="One per descriptor; -1 means unlabelled."
    )
    dataset: Text | None = Field(None, description="Name of a dataset, such as `digits`.")
    collection: Text | None = Field(
        None, description="Name of a collection that keeps its descriptors."
    )
    privileged: bool | None = Field(
        None,
        description="Whether nets also learn from the dataset's privileged features, if it has "
        "any; by default they do.",
    )

    @model_validator(mode="after")
    def _check_one_source(self) -> Self:
        sources = (self.descriptors, self.dataset, self.collection)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("expected one of descriptors, dataset and collection")
        if self.labels is not None and self.descriptors is None:
            raise ValueError("labels go with descriptors; datasets and collections have their own")
        if self.privileged is not None and self.dataset is None:
            raise ValueError("privileged goes with dataset: only datasets have such features")
        return self


class NewEncoder(Body):
    """An encoder to fit, or, for a data-free method, to make for a given dimension."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "mine", "method": "lsh", "n_bits": 64, "dimension": 384}]
        },
    )

    name: Text
    method: Text = Field(description="Name of a method, such as `lsh`.")
    n_bits: Integer = Field(description="Code length in bits.")
    params: dict[str, JsonValue] = Field({}, description="Further parameters of the method.")
    training: Training | None = None
    dimension: Integer | None = Field(
        None,
        description="Dimension of the descriptors, instead of `training`. Descriptors are then "
        "neither centred nor scaled.",
    )


class NewEncoderInUrl(Body):
    """The URL parameters of an encoder whose training is the npy body."""

    model_config = ConfigDict(strict=False)  # Every value in a URL is text.

    name: Text = Field(description="For npy bodies only. A JSON body holds this and the others.")
    method: Text = Field(description="See `name`.")
    n_bits: UrlInteger = Field(description="See `name`.")
    params: Json[dict[str, JsonValue]] = Field({}, description="See `name`; a JSON object.")


class EncoderOut(BaseModel):
    """An encoder."""

    name: str
    method: str
    n_bits: int
    dimension: int
    params: dict[str, Any]
    fingerprint: str = Field(description="SHA-256 of everything that determines its codes.")


class ToEncode(Body):
    """Descriptors to encode."""

    descriptors: Descriptors


class CodesOut(BaseModel):
    """Packed codes in hex. Bit 0 is the highest bit of the first byte."""

    codes: list[str]
    n_bits: int


class MethodOut(BaseModel):
    """A hashing method."""

    method: str
    data_free: bool = Field(description="Whether a dimension is enough to make an encoder.")
    needs_labels: bool
    needs_torch: bool = Field(description="Whether training needs torch; encoding never does.")


class Images(Body):
    """Image files to describe."""

    images: Annotated[
        list[Base64Bytes],
        Field(fail_fast=True, min_length=1, description="PNG, JPEG, WebP, GIF or BMP, in base64."),
    ]


class DescriptorsOut(BaseModel):
    """GIST descriptors, one per image."""

    descriptors: list[list[float]]
