"""Schemas of a collection's statistics."""

from __future__ import annotations

from typing import Literal

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


class DifferenceOut(BaseModel):
    """How new items differ from the reference in one respect."""

    what: Literal["balance", "correlation", "nearest"] = Field(
        description="The share of ones of bits, the correlation of pairs of bits, or the distances "
        "to the nearest item of the reference."
    )
    p_value: float = Field(
        description="Share of the random assignments of items to reference and new items for which "
        "they differ at least as much."
    )
    alarm: bool = Field(description="Whether that is too rare to be chance.")
    bits: list[int] = Field(
        description="The bit, or the two bits, that differ most; empty for `nearest`."
    )
    before: float = Field(
        description="In the reference: the share of ones of that bit, the correlation of those "
        "two, or the mean distance to the nearest item."
    )
    after: float = Field(description="The same in the new items.")


class DriftOut(BaseModel):
    """Whether the codes of new items differ from those of a reference."""

    alarm: bool = Field(description="Whether any of the last ten windows of new items differs.")
    alarms: int = Field(description="How many of them do.")
    windows: int = Field(description="How many of the last ten windows there are.")
    tested: int = Field(description="Number of windows that were ever tested.")
    false_alarm_rate: float = Field(
        description="Probability of an alarm in ten windows although nothing has changed, at most."
    )
    reference: int = Field(description="Number of items in the reference.")
    waiting: int = Field(description="Items written since the last window.")
    tests: list[DifferenceOut] = Field(
        description="The last window with an alarm, or without one the last window."
    )


class StatisticsOut(BaseModel):
    """Statistics of a collection's codes; `bits` and `buckets` are null if it is empty.

    `drift` is null while the collection has too few items for a reference.
    """

    items: int
    n_bits: int
    bits: BitsOut | None
    buckets: BucketsOut | None
    drift: DriftOut | None = None
