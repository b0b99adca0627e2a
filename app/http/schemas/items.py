"""Schemas of items."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, JsonValue

from app.http.schemas.fields import Body, Condition, Hex, Id, Integer, Label, Number


class NewItem(Body):
    """An item, with a descriptor or, in a collection without an encoder, with a code.

    The descriptor is encoded, and kept only if the collection keeps descriptors.
    """

    id: Id
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
    of: int = Field(description="Number of items in the collection, or of those that match.")


class ItemPatch(Body):
    """A JSON merge patch (RFC 7396) of the label and the payload of an item.

    What it does not name stays as it is; null removes it.
    """

    label: Label | None = None
    payload: dict[str, JsonValue] | None = None

    def as_given(self) -> dict[str, Any]:
        """Return the fields that the request has."""
        return {name: getattr(self, name) for name in self.model_fields_set - {"id"}}


class ItemChange(ItemPatch):
    """An item to change."""

    id: Id


class ItemChanges(Body):
    """Items to change, each by a JSON merge patch (RFC 7396) of its label and its payload."""

    items: Annotated[list[ItemChange], Field(fail_fast=True)] = Field(min_length=1)


class Changed(BaseModel):
    """The result of a change, which is on disk when this is sent."""

    changed: int
    items: int = Field(description="Number of items in the collection.")


class ToDelete(Body):
    """Items to delete: their ids, or a filter that they match."""

    ids: Annotated[list[Id], Field(fail_fast=True, min_length=1)] | None = None
    filter: Condition | None = None


class ToCount(Body):
    """Items to count: those that match a filter."""

    filter: Condition


class ToList(Body):
    """Items to list: those that match a filter."""

    filter: Condition
    limit: Integer = Field(100, ge=1, le=1000, description="Largest number of items to return.")
    offset: Integer = Field(0, ge=0, le=2**62, description="Number of oldest items to skip.")


class Deleted(BaseModel):
    """How many items were deleted: those of the ids that existed, or those that matched."""

    deleted: int


class Counted(BaseModel):
    """How many items match a filter."""

    count: int
