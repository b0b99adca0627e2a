"""Runs of consecutive numbers, without a loop over them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def runs(starts: Integers, lengths: Integers) -> Integers:
    """Return the numbers of all runs, given by start and length, one run after the other."""
    ends = np.cumsum(lengths)
    numbers: Integers = np.arange(int(ends[-1]) if len(ends) else 0)
    numbers += np.repeat(starts - (ends - lengths), lengths)
    return numbers


def products(
    a_starts: Integers, a_lengths: Integers, b_starts: Integers, b_lengths: Integers
) -> tuple[Integers, Integers]:
    """Return for each two runs all pairs of a number of the first and one of the second."""
    rows = runs(a_starts, a_lengths)
    lengths = np.repeat(b_lengths, a_lengths)
    return np.repeat(rows, lengths), runs(np.repeat(b_starts, a_lengths), lengths)


def triangles(starts: Integers, lengths: Integers) -> tuple[Integers, Integers]:
    """Return for each run all pairs of a number and a larger one."""
    rows = runs(starts, lengths)
    left = np.repeat(starts + lengths, lengths) - rows - 1
    return np.repeat(rows, left), runs(rows + 1, left)


def blocks(sizes: Integers, most: int) -> Iterator[slice]:
    """Yield slices of consecutive sizes whose sum is at most `most`, or one larger size."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield slice(first, last)
        first = last
