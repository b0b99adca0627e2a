"""The exact self-join: all pairs of codes within a Hamming distance, without a query per code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words, distance_type
from bitcodes.found_pairs import FoundPairs, NearCodes
from bitcodes.join_plan import Part, plan
from bitcodes.ragged import Integers, blocks, products, triangles

Report = Callable[[float], None]

# Pairs that are compared at once: the arrays then stay in the cache and in memory that is reused.
_BLOCK = 1 << 14
_SQUARE = 128, 512
# Where runs are shorter than this on average, many are compared at once; longer ones in squares.
_LONG_RUN = 48


def near_codes(
    words: Words,
    counts: Integers,
    radius: int,
    limit: int,
    report: Report = lambda share: None,
) -> NearCodes:
    """Return the pairs of codes within `radius`, and the groups that they connect.

    The memory is bounded by the codes and the limit, whatever the codes are. Once there are more
    pairs than the limit, only pairs that connect two groups are looked for.

    Parameters
    ----------
    words : (n, words) uint64
        Distinct codes.
    counts : (n,)
        How many items have each code. A pair of codes stands for a pair of each of their items.
    radius : int
    limit : int
        Number of pairs of items to stop at. The last pair of codes may exceed it.
    report : callable
        Called with the share of the work that is done, again and again. It may raise to give up.
    """
    found = FoundPairs(words, counts, radius, limit)
    parts = plan(words, radius) if len(words) > 1 else []
    n_lookups = [part.n_lookups for part in parts]
    done, of = 0, sum(n_lookups)
    for number, part in enumerate(parts):
        part_join = _PartJoin(found, parts[:number], part)
        for share in part_join.run():
            report((done + share * n_lookups[number]) / of)
        done += n_lookups[number]
    return found.result()


class _Roots:
    """The groups of the codes in a run, one block of columns of `_SQUARE` after the other."""

    def __init__(self, found: FoundPairs, codes: Integers) -> None:
        self._found, self._codes = found, codes
        self._version = -1
        self._low = self._high = np.empty(0, np.int64)

    def connected_with(self, codes: Integers) -> NDArray[np.bool_]:
        """Return for each block whether it is in one group with all of some codes."""
        if self._version != self._found.version:
            self._version = self._found.version
            root = self._found.root[self._codes]
            starts = np.arange(0, len(root), _SQUARE[1])
            self._low, self._high = (f.reduceat(root, starts) for f in (np.minimum, np.maximum))
        root = self._found.root[codes]
        low, high = int(root.min()), int(root.max())
        connected: NDArray[np.bool_] = (self._low == low) & (self._high == low)
        return connected if low == high else np.zeros_like(connected)


class _PartJoin:
    """The pairs whose distance in one part is within its budget."""

    def __init__(self, found: FoundPairs, earlier: list[Part], part: Part) -> None:
        self._found, self._earlier, self._part = found, earlier, part
        keys = _keys(found.columns, part.places)
        self._order: Integers = np.argsort(keys, kind="stable")
        keys = keys[self._order]
        self._columns = found.columns[:, self._order]
        first = np.ones(len(keys), bool)
        first[1:] = keys[1:] != keys[:-1]
        self._starts = np.flatnonzero(first)
        self._lengths = np.diff(self._starts, append=len(keys))
        self._values = keys[self._starts]
        size = _SQUARE[0] * _SQUARE[1]
        self._differ = np.empty(size, np.uint64)
        self._total = np.empty(size, distance_type(len(self._columns)))

    def run(self) -> Iterator[float]:
        """Find the pairs; yield the share of the work that is done."""
        n_done, of = 0, self._part.n_lookups
        for share in self._within_runs():
            yield share / of
        if not self._part.budget:
            return
        n_done = 1
        run_of = np.full(1 << len(self._part.places), -1, np.int32)
        run_of[self._values] = np.arange(len(self._values))
        for distance in range(1, self._part.budget + 1):
            for flip in _flips(len(self._part.places), distance):
                # Of two values that differ in these bits, the smaller one lacks the highest.
                highest = np.uint32(1 << (int(flip).bit_length() - 1))
                smaller = np.flatnonzero((self._values & highest) == 0)
                other = run_of[self._values[smaller] ^ flip]
                is_there = np.flatnonzero(other >= 0)
                for share in self._between_runs(smaller[is_there], other[is_there]):
                    yield (n_done + share) / of
                n_done += 1
                yield n_done / of

    def _within_runs(self) -> Iterator[float]:
        """Compare the codes of each run with one another."""
        several = self._lengths > 1
        starts, lengths = self._starts[several], self._lengths[several]
        done, of = 0, int((lengths**2).sum())
        is_long = lengths > _LONG_RUN
        for start, length in zip(starts[is_long].tolist(), lengths[is_long].tolist(), strict=True):
            for share in self._squares((start, length), (start, length)):
                yield (done + share * length**2) / of
            done += length**2
        starts, lengths = starts[~is_long], lengths[~is_long]
        for part in blocks(lengths * (lengths - 1) // 2, _BLOCK):
            self._compare(*triangles(starts[part], lengths[part]))
            done += int((lengths[part] ** 2).sum())
            yield done / of

    def _between_runs(self, runs: Integers, others: NDArray[np.int32]) -> Iterator[float]:
        """Compare the codes of some runs with those of others."""
        bounds = self._starts, self._lengths
        columns = [bound[chosen] for chosen in (runs, others) for bound in bounds]
        sizes = columns[1] * columns[3]
        done, of = 0, int(sizes.sum())
        is_long = sizes > _LONG_RUN**2
        long_ones = zip(*(column[is_long].tolist() for column in columns), strict=True)
        for a_start, a_length, b_start, b_length in long_ones:
            size = a_length * b_length
            for share in self._squares((a_start, a_length), (b_start, b_length)):
                yield (done + share * size) / of
            done += size
        short, sizes = [column[~is_long] for column in columns], sizes[~is_long]
        for part in blocks(sizes, _BLOCK):
            self._compare(*products(*(column[part] for column in short)))
            done += int(sizes[part].sum())
            yield done / of

    def _squares(self, a: tuple[int, int], b: tuple[int, int]) -> Iterator[float]:
        """Compare all codes of a run with all of another, or of the same, in squares.

        Runs are given by start and length. Squares in which all codes are connected are left out
        once only connections are wanted.
        """
        (a_start, a_length), (b_start, b_length) = a, b
        rows, columns = _SQUARE
        starts = np.arange(b_start, b_start + b_length, columns)
        roots = _Roots(self._found, self._order[b_start : b_start + b_length])
        for i in range(a_start, a_start + a_length, rows):
            i_end = min(i + rows, a_start + a_length)
            wanted = starts[starts + columns > i] if a == b else starts
            if self._found.truncated:
                connected = roots.connected_with(self._order[i:i_end])
                wanted = wanted[~connected[len(starts) - len(wanted) :]]
            for j in wanted.tolist():
                j_end = min(j + columns, b_start + b_length)
                self._compare_square(i, i_end, j, j_end, same=a == b)
            yield (i_end - a_start) / a_length

    def _compare_square(self, i: int, i_end: int, j: int, j_end: int, *, same: bool) -> None:
        size = (i_end - i) * (j_end - j)
        shape = (i_end - i, j_end - j)
        # The same memory each time: new memory of this size costs more than the comparison.
        differ = self._differ[:size].reshape(shape)
        total = self._total[:size].reshape(shape)
        for number, column in enumerate(self._columns):
            np.bitwise_xor(column[i:i_end, None], column[None, j:j_end], out=differ)
            if number:
                total += np.bitwise_count(differ)
            else:
                np.bitwise_count(differ, out=total)
        place = np.flatnonzero(total <= self._found.radius)
        a, b = place // (j_end - j) + i, place % (j_end - j) + j
        if same and j < i_end:
            after = a < b
            a, b = a[after], b[after]
        if len(a):
            self._keep(a, b)

    def _compare(self, a: Integers, b: Integers) -> None:
        """Compare the codes of pairs of places in the order of this part."""
        distance = np.zeros(len(a), distance_type(len(self._columns)))
        for number, column in enumerate(self._columns):
            if number and len(a) > 64:
                # Of long codes, most pairs are too far apart after a few words.
                near = np.flatnonzero(distance <= self._found.radius)
                if len(near) < len(a) // 2:
                    a, b, distance = a[near], b[near], distance[near]
            distance += np.bitwise_count(column[a] ^ column[b])
        near = np.flatnonzero(distance <= self._found.radius)
        if len(near):
            self._keep(a[near], b[near])

    def _keep(self, a: Integers, b: Integers) -> None:
        """Add the pairs that no earlier part has found."""
        found, root = self._found, self._found.root
        if found.truncated:
            new = root[self._order[a]] != root[self._order[b]]
            a, b = a[new], b[new]
        if self._earlier:
            differ = self._columns[:, a] ^ self._columns[:, b]
        for part in self._earlier:
            words = np.flatnonzero(part.mask)
            masked = differ[words] & part.mask[words, None]
            new = np.bitwise_count(masked).sum(axis=0, dtype=np.uint16) > part.budget
            a, b, differ = a[new], b[new], differ[:, new]
        if len(a):
            a, b = self._order[a], self._order[b]
            found.add(np.minimum(a, b), np.maximum(a, b))


def _keys(columns: Words, places: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return the bits at `places` of each code as one number."""
    keys = np.zeros(columns.shape[1], np.uint32)
    for bit, place in enumerate(places):
        value = (columns[int(place) // 64] >> (place % np.uint64(64))) & np.uint64(1)
        keys |= value.astype(np.uint32) << np.uint32(bit)
    return keys


@cache
def _flips(width: int, distance: int) -> NDArray[np.uint32]:
    """Return all values of `width` bits with `distance` of them set."""
    chosen = np.array(list(combinations(range(width), distance)), np.uint32)
    flips: NDArray[np.uint32] = (np.uint32(1) << chosen).sum(axis=1, dtype=np.uint32)
    return flips
