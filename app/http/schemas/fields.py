"""Types and the base class that several schemas share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Number = Annotated[float, Field(strict=True)]
Integer = Annotated[int, Field(strict=True)]
Label = Annotated[int, Field(strict=True, ge=-1, le=2**63 - 1)]
Seed = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
Text = Annotated[str, Field(strict=True)]
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


class Body(BaseModel):
    """A request body. Unknown fields are refused, so that misspelt ones are noticed."""

    model_config = ConfigDict(extra="forbid")
