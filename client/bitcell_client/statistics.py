"""The statistics of a collection, as plain frozen dataclasses with the field names of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
class Difference(display.Result):
    """How new items differ from the reference in one respect.

    Attributes
    ----------
    what : {"balance", "correlation", "nearest"}
        The share of ones of bits, the correlation of pairs of bits, or the distances to the nearest
        item of the reference.
    p_value : float
        How often chance makes as large a difference.
    alarm : bool
        Whether that is too rare to be chance.
    bits : list of int
        The bit, or the two bits, that differ most; empty for "nearest".
    before, after : float
        In the reference and in the new items: the share of ones of that bit, the correlation of
        those two, or the mean distance to the nearest item.
    """

    what: Literal["balance", "correlation", "nearest"]
    p_value: float
    alarm: bool
    bits: list[int]
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Drift(display.Result):
    """Whether the codes of new items differ from those of a reference.

    Attributes
    ----------
    alarm : bool
        Whether any of the last ten windows of new items differs.
    alarms, windows : int
        How many of them do, and how many of them there are.
    tested : int
        Number of windows that were ever tested.
    false_alarm_rate : float
        Probability of an alarm in ten windows although nothing has changed, at most.
    reference : int
        Number of items in the reference.
    waiting : int
        Items written since the last window.
    tests : list of Difference
        The last window with an alarm, or without one the last window.
    """

    alarm: bool
    alarms: int
    windows: int
    tested: int
    false_alarm_rate: float
    reference: int
    waiting: int
    tests: list[Difference]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Statistics(display.Result):
    """Statistics of a collection's codes; `bits` and `buckets` are None while it is empty.

    `drift` is None while there are too few items for a reference, or from an earlier service.
    """

    items: int
    n_bits: int
    bits: BitStatistics | None
    buckets: BucketStatistics | None
    drift: Drift | None = None
