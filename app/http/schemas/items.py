"""Schemas of items."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, JsonValue

from app.http.schemas.fields import Body, Hex, Label, Number, Text


class NewItem(Body):
    """An item, with a descriptor or, in a collection without an encoder, with a code.

    The descriptor is encoded, and kept only if the collection keeps descriptors.
    """

    id: Text
    descriptor: Annotated[list[Number], Field(fail_fast=True, min_length=1)] | None = None
    code: Hex | None = None
    label: Label | None = None
    payload: dict[str, JsonValue] | None = Field(None, description="Any JSON object.")


class NewItems(Body):
    """Items to insert, or to replace if their id exists."""

    items: Annotated[list[NewItem], Field(fail_fast=True)] = Field(min_length=1)


class Upserted(BaseModel):
    """The result of an upsert, which is on disk when this is sent."""

    upserted: int
    items: int = Field(description="Number of items now in the collection.")


class ItemOut(BaseModel):
    """An item as it is stored."""

    id: str
    code: str = Field(description="Packed code in hex.")
    label: int | None = None
    payload: dict[str, Any] | None = None


class ItemsOut(BaseModel):
    """A page of a collection's items."""

    items: list[ItemOut]
    of: int = Field(description="Number of items in the collection.")


class Ids(Body):
    """Ids of items."""

    ids: Annotated[list[Text], Field(fail_fast=True)] = Field(min_length=1)


class Deleted(BaseModel):
    """How many of the ids existed and were deleted."""

    deleted: int
