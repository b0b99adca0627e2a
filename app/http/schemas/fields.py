"""Types and the base class that several schemas share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

Number = Annotated[float, Field(strict=True)]
Integer = Annotated[int, Field(strict=True)]
Label = Annotated[int, Field(strict=True, ge=-1, le=2**63 - 1)]
Seed = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
Text = Annotated[str, Field(strict=True)]


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


class Body(BaseModel):
    """A request body. Unknown fields are refused, so that misspelt ones are noticed."""

    model_config = ConfigDict(extra="forbid")
