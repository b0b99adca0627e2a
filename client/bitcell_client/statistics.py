"""The statistics of a collection, as plain frozen dataclasses with the field names of the API."""

from __future__ import annotations

from dataclasses import dataclass

from bitcell_client import display


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BitPair(display.Result):
    """Two bits and their correlation."""

    bits: tuple[int, int]
    correlation: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BitStatistics(display.Result):
    """How well a collection's codes use their bits.

    Attributes
    ----------
    looked : int
        How many items this rests on: all of them, or a random sample.
    ones : list of float
        The share of ones of each bit.
    constant : int
        How many bits are the same in every code.
    mean_correlation : float
        Mean of |r| over all pairs of bits.
    most_correlated : list of BitPair
        The pairs with the largest |r|.
    heat_map : list of list of float
        |r| of each bit with each bit; for codes above 64 bits, means over 64 x 64 cells.
    """

    looked: int
    ones: list[float]
    constant: int
    mean_correlation: float
    most_correlated: list[BitPair]
    heat_map: list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BucketSizes(display.Result):
    """How many codes are shared by `least` to `most` items, and how many items those are."""

    least: int
    most: int
    codes: int
    items: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BucketStatistics(display.Result):
    """How many items share a code.

    Attributes
    ----------
    looked : int
        How many items this rests on: all of them, or a random sample.
    codes : int
        Number of distinct codes.
    largest : int
        Number of items of the most frequent code.
    sizes : list of BucketSizes
        The distribution of bucket sizes.
    """

    looked: int
    codes: int
    largest: int
    sizes: list[BucketSizes]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Statistics(display.Result):
    """Statistics of a collection's codes; `bits` and `buckets` are None while it is empty."""

    items: int
    n_bits: int
    bits: BitStatistics | None
    buckets: BucketStatistics | None
