"""Schemas of a collection's statistics."""

from __future__ import annotations

from pydantic import BaseModel, Field


class PairOut(BaseModel):
    """Two bits and their correlation."""

    bits: tuple[int, int]
    correlation: float


class BitsOut(BaseModel):
    """How well the codes use their bits: best are balanced bits without correlation."""

    looked: int = Field(description="Number of items examined: all, or a random sample.")
    ones: list[float] = Field(description="For each bit, the share of codes in which it is one.")
    constant: int = Field(
        description="Number of bits that are the same in every code and so carry no information."
    )
    mean_correlation: float = Field(description="Mean of |r| over all pairs of bits.")
    most_correlated: list[PairOut] = Field(description="The pairs with the largest |r|.")
    heat_map: list[list[float]] = Field(
        description="|r| of every pair of bits; for codes of more than 64 bits, means over "
        "64 x 64 cells."
    )


class SizesOut(BaseModel):
    """Codes that are shared by `least` to `most` items."""

    least: int
    most: int
    codes: int
    items: int = Field(description="Number of items with these codes.")


class BucketsOut(BaseModel):
    """How many items share a code."""

    looked: int = Field(description="Number of items examined: all, or a random sample.")
    codes: int = Field(description="Number of distinct codes.")
    largest: int = Field(description="Number of items with the most frequent code.")
    sizes: list[SizesOut]


class StatisticsOut(BaseModel):
    """Statistics of a collection's codes; `bits` and `buckets` are null if it is empty."""

    items: int
    n_bits: int
    bits: BitsOut | None
    buckets: BucketsOut | None
