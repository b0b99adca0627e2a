"""Types and the base class that several schemas share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

Number = Annotated[float, Field(strict=True)]
Integer = Annotated[int, Field(strict=True)]
Label = Annotated[int, Field(strict=True, ge=-1, le=2**63 - 1)]
Seed = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
Text = Annotated[str, Field(strict=True)]


def _as_digits(value: Any) -> Any:
    # Pydantic would read "1_0" as 10, and "1.0" as 1.
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]+", value):
        raise PydanticCustomError("int", "Input should be a valid integer")
    return value


def _as_flag(value: Any) -> Any:
    # Pydantic would also read "1", "yes", "on", "t" and "TRUE".
    if isinstance(value, str) and value not in ("true", "false"):
        raise PydanticCustomError("bool", "Input should be true or false")
    return value


def _as_decimal(value: Any) -> Any:
    # Pydantic would read "1_0" as 10, and " 1", ".5" and "nan". This is the grammar of JSON.
    number = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
    if isinstance(value, str) and not re.fullmatch(number, value):
        raise PydanticCustomError("float", "Input should be a valid number")
    return value


# In a URL every value is text.
UrlInteger = Annotated[int, BeforeValidator(_as_digits)]
UrlBoolean = Annotated[bool, BeforeValidator(_as_flag)]
UrlNumber = Annotated[float, BeforeValidator(_as_decimal), Field(allow_inf_nan=False)]


def _as_id(value: Any) -> str:
    # JSON has no other integers than `int`, and to Python a bool is an int too.
    if type(value) is not str and type(value) is not int:
        raise PydanticCustomError("id", "Input should be a valid string or integer")
    return str(value)


Id = Annotated[str, PlainValidator(_as_id, json_schema_input_type=str | int)]
"""An id of an item: a string, or an integer, which becomes its decimal digits."""
# Parsing stops at the first wrong element: one error per element would fill the memory.
Numbers = Annotated[list[Number], Field(fail_fast=True)]
Descriptors = Annotated[
    list[Numbers],
    Field(fail_fast=True, min_length=1, description="One list of numbers per descriptor."),
]

Condition = Annotated[
    dict[str, JsonValue],
    Field(
        description=(
            'Only items that match: `{"label": 3}`, `{"price": {"gte": 1, "lt": 5}}`, '
            '`{"a.b": {"in": ["x", "y"]}}`, `{"tags": {"contains": "x"}}`, `{"id": {"in": ["x"]}}`'
            ". All fields of one object must match; `and`, `or` and `not` combine such objects."
        ),
        examples=[{"label": {"in": [1, 2]}, "not": {"colour": "red"}}],
    ),
]
Hex = Annotated[str, Field(strict=True, description="A packed code in hex.")]
HexCodes = Annotated[
    list[Hex], Field(fail_fast=True, min_length=1, description="Packed codes in hex.")
]


_VECTORS = {"vector", "vectors", "embedding", "embeddings", "query", "queries", "data", "x"}
ELSEWHERE = {
    "k": {"top_k", "topk", "limit", "n", "size", "n_results", "num_results"},
    "descriptor": _VECTORS,
    "descriptors": _VECTORS,
    "code": {"hash", "hex", "binary_vector"},
    "codes": {"hashes", "hash", "binary_vectors"},
    "payload": {"metadata", "properties", "document"},
    "payloads": {"with_payload", "with_payloads", "include_payload", "metadatas"},
    "filter": {"where", "filters", "expr"},
    "radius": {"threshold", "max_distance", "distance", "range"},
    "items": {"points", "objects", "records", "vectors"},
    "labels": {"y", "classes"},
    "n_bits": {"bits", "nbits", "code_length"},
    "dimension": {"dim", "dims", "dimensions", "d"},
    "offset": {"skip"},
    "name": {"collection_name"},
}
"""What other products call the fields of bodies."""


def fields_at(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """Return the fields of the model at a place inside a model, as pydantic names places."""
    found: type[BaseModel] | None = model
    for step in place:
        if isinstance(step, str) and found is not None:
            field = found.model_fields.get(step)
            found = None if field is None else _model_in(field.annotation)
    return [] if found is None else list(found.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


class Body(BaseModel):
    """A request body.

    Unknown fields are refused, so that misspelt ones are noticed. Values are never cast: neither
    "yes" nor 1 is true, and neither "1" nor 1.0 is an integer.
    """

    model_config = ConfigDict(extra="forbid", strict=True)


class OfData(Body):
    """A request about the descriptors of a dataset or of a collection."""

    dataset: Text | None = Field(None, description="Name of a dataset, such as `digits`.")
    collection: Text | None = Field(
        None, description="Name of a collection that keeps its descriptors."
    )

    @model_validator(mode="after")
    def _check_one_source(self) -> Self:
        if (self.dataset is None) == (self.collection is None):
            raise ValueError("expected one of dataset and collection")
        return self
