"""How to cut codes for a self-join: which bits make up each part, and how far apart they may be.

If the distances in m disjoint parts of two codes were all larger than their budgets, the codes
would be at least sum(budget + 1) apart. So with sum(budget + 1) = radius + 1, every pair within the
radius is within the budget of some part (Norouzi, Punjani, Fleet, "Fast Exact Search in Hamming
Space with Multi-Index Hashing", PAMI 2014, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, inf

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words, bit_places

# Fewer codes than this are compared all against all.
_FEW_CODES = 4096
# A part with a budget has a table of all values of its bits.
MAX_WIDTH = 24
_MAX_WIDTH_WITHOUT_BUDGET = 32
_MOST_PARTS = 64
# Costs in nanoseconds: to look up a value, to compare a word of two codes that have been looked up
# or of two codes in a square of all against all, and to sort a code.
_PROBE = 4.0
_CANDIDATE = 6.0
_IN_SQUARE = 1.5
_SORT = 300.0
# Pairs that the costs are estimated on.
_SAMPLED = 256, 1024
# Bits that their balance is estimated on.
_SAMPLED_BITS = 1 << 22
# A part with more values within its budget would take much memory for the list of them.
_MOST_LOOKUPS = 1 << 18


@dataclass(frozen=True)
class Part:
    """Some bits of a code.

    Attributes
    ----------
    places : (width,) uint64
        The places of the bits within the words of a code.
    mask : (words,) uint64
        The same bits, set.
    budget : int
        The largest number of these bits in which a pair that the part finds may differ.
    """

    places: NDArray[np.uint64]
    mask: NDArray[np.uint64]
    budget: int

    @property
    def n_lookups(self) -> int:
        """Number of values within the budget of a value."""
        return sum(comb(len(self.places), distance) for distance in range(self.budget + 1))


def plan(words: Words, radius: int) -> list[Part]:
    """Return the parts that are expected to find all pairs of distinct codes in the least time."""
    n, n_words = words.shape
    best = [everything(n_words)]
    if n < _FEW_CODES:
        return best
    least = _IN_SQUARE * n_words * n * n / 2
    # The parts need no more bits.
    places = varying_bits(words)[: _MOST_PARTS * _MAX_WIDTH_WITHOUT_BUDGET]
    samples = _samples(words, places)
    for m in range(1, min(radius + 1, len(places), _MOST_PARTS) + 1):
        bits = cut(len(places), n, radius, m)
        cost = _cost(bits, samples, n, n_words, least)
        if cost < least:
            best = [part(places[chosen], n_words, budget) for chosen, budget in bits]
            least = cost
    return best


def everything(n_words: int) -> Part:
    """Return the part that compares all codes with all: it has no bits."""
    return part(np.empty(0, np.uint64), n_words, 0)


def part(places: NDArray[np.uint64], n_words: int, budget: int) -> Part:
    """Return the part with the bits at these places."""
    mask = np.zeros(n_words, np.uint64)
    for place in places:
        mask[int(place) // 64] |= np.uint64(1) << (place % np.uint64(64))
    return Part(places, mask, budget)


def cut(n_bits: int, n: int, radius: int, m: int) -> list[tuple[NDArray[np.int64], int]]:
    """Return m disjoint sets of bits, of the first `n_bits`, with their budgets, for n codes.

    Consecutive bits go to different sets: if they are sorted by their balance, all sets are alike.
    """
    cuts = []
    for j in range(m):
        budget = len(range(j, radius + 1, m)) - 1
        width = min(MAX_WIDTH, n.bit_length() + 2) if budget else _MAX_WIDTH_WITHOUT_BUDGET
        cuts.append((np.arange(j, n_bits, m)[:width], budget))
    return cuts


def varying_bits(words: Words) -> NDArray[np.uint64]:
    """Return the places of the bits that are not the same in all codes, most balanced first."""
    places = bit_places(64 * words.shape[1])
    sample = words[:: max(1, len(words) * len(places) // _SAMPLED_BITS)]
    ones = _bits(sample, places).mean(axis=0)
    low, high = np.bitwise_and.reduce(words), np.bitwise_or.reduce(words)
    varies = _bits((low ^ high)[None], places)[0].astype(bool)
    order = np.argsort(np.abs(ones - 0.5), kind="stable")
    chosen: NDArray[np.uint64] = places[order[varies[order]]]
    return chosen


def _samples(
    words: Words, places: NDArray[np.uint64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the bits of two samples of different codes as -1 and 1."""
    chosen = np.random.default_rng(0).choice(len(words), sum(_SAMPLED), replace=False)
    signs = 2 * _bits(words[chosen], places).astype(np.float32) - 1
    return signs[: _SAMPLED[0]], signs[_SAMPLED[0] :]


def _bits(words: Words, places: NDArray[np.uint64]) -> NDArray[np.uint8]:
    word, shift = (places // 64).astype(np.int64), places % 64
    return ((words[:, word] >> shift) & np.uint64(1)).astype(np.uint8)


def _cost(
    bits: list[tuple[NDArray[np.int64], int]],
    samples: tuple[NDArray[np.float32], NDArray[np.float32]],
    n: int,
    n_words: int,
    most: float,
) -> float:
    """Return the nanoseconds that parts are expected to take, or something larger than `most`."""
    rows, columns = samples
    n_pairs, cost = n * n / 2, 0.0
    for chosen, budget in bits:
        width = len(chosen)
        if width <= budget:
            return inf
        n_lookups = sum(comb(width, distance) for distance in range(budget + 1))
        if n_lookups > _MOST_LOOKUPS:
            return inf
        cost += _PROBE * n * n_lookups / 2 + _SORT * n
        if cost > most:
            break
        # The product of two rows of signs is the width less twice the distance.
        products = rows[:, chosen] @ columns[:, chosen].T
        near = np.count_nonzero(products >= width - 2 * budget - 0.5) / products.size
        cost += _CANDIDATE * n_words * near * n_pairs
    return cost
