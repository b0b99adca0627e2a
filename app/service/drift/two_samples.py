"""Tests whether two samples of codes have the same source, by permutation.

If they do, every assignment of the items to the samples is equally likely, so that the p-value is
exact, whatever the codes are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes, Words, hamming, to_codes, unpack

What = Literal["balance", "correlation", "nearest"]
Float32 = NDArray[np.float32]

# Most bits, and most pairs of bits, that are compared.
_BITS = 512
_PAIRS = 512
# Permutations in all, and those that are drawn at a time.
_PERMUTATIONS = 999
_BLOCK = 100
# Codes whose distances to the reference are computed at a time.
_ROWS = 256


class Difference(NamedTuple):
    """How two samples differ in one respect.

    Attributes
    ----------
    what : {"balance", "correlation", "nearest"}
    p_value : float
        Share of the assignments of items to samples for which they differ at least as much.
    bits : list of int
        The bit or the pair of bits that differs most; empty for "nearest".
    before, after : float
        The share of ones of that bit, the correlation of that pair, or the mean distance to the
        nearest item of the reference: in the reference, and in the new items.
    """

    what: What
    p_value: float
    bits: list[int]
    before: float
    after: float


def differences(
    base: Words, held: Words, new: Words, n_bits: int, least_p: float, seed: int
) -> list[Difference]:
    """Return how new codes differ from those of a reference, in three respects.

    Parameters
    ----------
    base, held : (n, words) uint64
        The reference, split at random: distances are measured to `base`, from `held` and `new`.
    new : (m, words) uint64
        What follows the bits of a code, as the factors of estimates do, is not compared.
    n_bits : int
    least_p : float
        P-values above this may be rough: no more permutations are drawn once it is clear that the
        p-value is larger.
    seed : int
        Of the permutations, and of the bits of long codes that are compared.
    """
    rng = np.random.default_rng(seed)
    places = np.sort(rng.permutation(n_bits)[:_BITS])
    size = (n_bits + 7) // 8
    old_bits, new_bits = (
        unpack(to_codes(words, size), n_bits)[:, places].astype(np.float32)
        for words in (np.concatenate([base, held]), new)
    )

    def p_value(old: Float32, of_new: Float32) -> float:
        return permuted(old, of_new, least_p, rng)

    found = [_balance(old_bits, new_bits, places, p_value)]
    if len(places) > 1:
        found.append(_correlation(old_bits, new_bits, places, p_value, rng))
    codes, held_codes, new_codes = (to_codes(words, size) for words in (base, held, new))
    return [*found, _nearest(codes, held_codes, new_codes, p_value)]


Test = Callable[[Float32, Float32], float]


def _balance(old: Float32, new: Float32, places: NDArray[np.int64], test: Test) -> Difference:
    before, after = old.mean(axis=0), new.mean(axis=0)
    most = int(np.abs(after - before).argmax())
    return Difference(
        "balance", test(old, new), [int(places[most])], float(before[most]), float(after[most])
    )


def _correlation(
    old: Float32, new: Float32, places: NDArray[np.int64], test: Test, rng: np.random.Generator
) -> Difference:
    first, second = np.triu_indices(len(places), 1)
    chosen = rng.permutation(len(first))[:_PAIRS]
    first, second = first[chosen], second[chosen]
    # Standardised over both samples together, so that permutations do not change them.
    both = np.concatenate([old, new])
    mean, deviation = both.mean(axis=0), both.std(axis=0)
    old, new = (_scaled(sample - mean, deviation) for sample in (old, new))
    products = [sample[:, first] * sample[:, second] for sample in (old, new)]
    before, after = (product.mean(axis=0) for product in products)
    most = int(np.abs(after - before).argmax())
    pair = [int(places[first[most]]), int(places[second[most]])]
    p_value = test(products[0], products[1])
    return Difference("correlation", p_value, pair, float(before[most]), float(after[most]))


def _nearest(base: Codes, held: Codes, new: Codes, test: Test) -> Difference:
    old, of_new = (_nearest_distances(codes, base) for codes in (held, new))
    # Which items are within each distance: the statistic is that of Anderson and Darling.
    steps = np.unique(np.concatenate([old, of_new]))[:-1]
    p_value = test(*((d[:, None] <= steps).astype(np.float32) for d in (old, of_new)))
    return Difference("nearest", p_value, [], float(old.mean()), float(of_new.mean()))


def _nearest_distances(codes: Codes, base: Codes) -> NDArray[np.int64]:
    found = [
        hamming(codes[start : start + _ROWS], base).min(axis=1)
        for start in range(0, len(codes), _ROWS)
    ]
    return np.concatenate(found).astype(np.int64)


def permuted(old: Float32, new: Float32, least_p: float, rng: np.random.Generator) -> float:
    """Return the p-value of the difference between the means of two samples of rows.

    The statistic is the sum over the columns of the squared difference of the means, divided by
    the variance over both samples.
    """
    both = np.concatenate([old, new])
    mean, deviation = both.mean(axis=0), both.std(axis=0)
    rows = _scaled(both - mean, deviation)
    n, m = len(rows), len(new)
    # The means over both samples are zero, so that those of the new rows say all.
    observed = float(np.square(rows[n - m :].sum(axis=0, dtype=np.float64)).sum())
    # Sums in another order differ by rounding, which must not count as smaller.
    observed -= 1e-5 * abs(observed)
    as_large = drawn = 0
    places = np.broadcast_to(np.arange(n) >= n - m, (_BLOCK, n)).astype(np.float32)
    most = least_p * (_PERMUTATIONS + 1)
    while drawn < _PERMUTATIONS and as_large + 1 <= most:
        chosen = rng.permuted(places[: min(_BLOCK, _PERMUTATIONS - drawn)], axis=1)
        sums = chosen @ rows
        as_large += int((np.square(sums, dtype=np.float64).sum(axis=1) >= observed).sum())
        drawn += len(chosen)
    return (as_large + 1) / (drawn + 1)


def _scaled(x: Float32, deviation: Float32) -> Float32:
    """Return columns divided by their deviation; columns that do not vary become zero."""
    return np.asarray(np.divide(x, deviation, out=np.zeros_like(x), where=deviation > 1e-6))
