"""The schema of errors."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What was expected and what was received.")
    row: int | None = Field(
        None,
        description="The item or descriptor of the request that is wrong, counted from 0, if it "
        "is one of them. Omitted otherwise.",
    )
