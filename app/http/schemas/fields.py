"""Types and the base class that several schemas share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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

Hex = Annotated[str, Field(strict=True, description="A packed code in hex.")]
HexCodes = Annotated[
    list[Hex], Field(fail_fast=True, min_length=1, description="Packed codes in hex.")
]


class Body(BaseModel):
    """A request body. Unknown fields are refused, so that misspelt ones are noticed."""

    model_config = ConfigDict(extra="forbid")
