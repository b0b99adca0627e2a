"""Reads of many items: all of them, pages of them, and some at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes, Words, to_words
from index.callbacks import Checkpoint
from index.errors import Unavailable
from index.milvus.fetched import FEW
from index.milvus.server.columns import (
    CODE,
    DESCRIPTOR,
    LABEL,
    SERIAL,
    Columns,
    as_descriptors,
    chosen,
    joined,
    texts,
)
from index.milvus.server.connection import TooMuch
from index.milvus.server.physical import REACH, At, Physical, among
from index.storage.catalog import DescriptorType
from index.validation import check_keeps_descriptors

# A page stops counting, and reads and sorts the items that match, once no more than this are left.
_FEW_MATCHES = 8192
_MOST_READ = 1 << 17
# The last pass of a scan reads at most this many serial numbers, in one call.
_AT_ONCE = REACH
# After this many passes, a scan gives up.
_PASSES = 20


def both(*conditions: str) -> str:
    """Return the expression of items that meet all conditions; an empty one is met by all."""
    given = [each for each in conditions if each]
    return given[0] if len(given) == 1 else " and ".join(f"({each})" for each in given)


class Now(NamedTuple):
    """What a read sees: all items of serial numbers below `written`, and there are none from `end`.

    The writes between go on.
    """

    at: At
    written: int
    end: int


def scan(
    physical: Physical,
    where: str,
    fields: Sequence[str],
    now: Callable[[], Now],
    size: int,
    checkpoint: Checkpoint = lambda: None,
) -> Iterator[Columns]:
    """Yield the items that meet an expression in the order of serial numbers, some at a time.

    An item that is there all the time comes once, as it is when it is read: last, if it is written
    again meanwhile.
    """
    start = now()
    # Hashes of the ids that came: items that are written again come to the end.
    came: list[NDArray[np.int64]] = []
    for columns in _between(physical, where, fields, start.at, 0, start.written, size, checkpoint):
        came.append(_hashes(columns.ids))
        yield columns
    seen = np.concatenate(came) if came else np.empty(0, np.int64)
    came.clear()
    seen.sort()
    left = _written_since(physical, where, start.written, now, seen, checkpoint)
    # By their ids, at which they are however often they are written again.
    first, width = 0, size
    while first < len(left):
        checkpoint()
        part = left[first : first + width]
        try:
            columns = physical.query(both(where, among(part)), [SERIAL, *fields], now().at)
        except TooMuch:
            if width == 1:
                raise
            width = max(1, width // 2)
            continue
        first += len(part)
        if columns.ids:
            yield chosen(columns, np.argsort(columns.serials))


def _written_since(
    physical: Physical,
    where: str,
    low: int,
    now: Callable[[], Now],
    seen: NDArray[np.int64],
    checkpoint: Checkpoint,
) -> list[str]:
    """Return the ids, except those seen, of items with a serial number `low` or larger."""
    left: dict[str, None] = {}

    def note(columns: Columns) -> None:
        is_new = np.flatnonzero(~_among(_hashes(columns.ids), seen))
        for name in chosen(columns, is_new[np.argsort(columns.serials[is_new])]).ids:
            left.pop(name, None)  # To the end.
            left[name] = None

    for _ in range(_PASSES):
        at, _, end = now()
        if end == low:
            return list(left)
        if end - low <= _AT_ONCE:
            try:
                # An answer is of one moment, so that no item is written again between two answers.
                note(physical.query(both(where, f"serial >= {low}"), [SERIAL], at))
            except TooMuch:
                pass
            else:
                return list(left)
        for columns in _between(physical, where, [], at, low, end, REACH, checkpoint):
            note(columns)
        low = end
    raise Unavailable("items are written faster than they can be read: try again later")


def _hashes(ids: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, ids), np.int64, len(ids))


def _among(values: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    if not len(ascending):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[at] == values
    return found


def _between(
    physical: Physical,
    where: str,
    fields: Sequence[str],
    at: At,
    low: int,
    high: int,
    size: int,
    checkpoint: Checkpoint,
) -> Iterator[Columns]:
    """Yield the items between two serial numbers, in their order, at most `size` at a time."""
    width = size = min(size, _MOST_READ)
    while low < high:
        checkpoint()
        stop = min(high, low + width)
        condition = both(where, f"serial >= {low}", f"serial < {stop}")
        try:
            columns = physical.query(condition, [SERIAL, *fields], at)
        except TooMuch:
            if width == 1:
                raise
            width //= 2
            continue
        order = np.argsort(columns.serials)
        for first in range(0, len(order), size):
            yield chosen(columns, order[first : first + size])
        low = stop
        # There may be gaps, of items that are deleted or written again.
        width = min(2 * width, _MOST_READ) if 2 * len(order) < size else min(width, size)


def page(
    physical: Physical,
    where: str,
    offset: int,
    limit: int,
    end: int,
    at: At,
    checkpoint: Checkpoint,
) -> tuple[list[str], int]:
    """Return the ids of a page in the order of serial numbers, and how many items match.

    `end` is larger than all serial numbers. Where many items match, the range of serial numbers
    with the page is narrowed by counting.
    """
    low, high, skipped = 0, end, 0
    total = n = physical.count(where, at)
    limit = max(0, min(limit, total - offset))
    if limit == 0:
        return [], total
    while n > _FEW_MATCHES and high - low > 1:
        checkpoint()
        middle = (low + high) // 2
        below = physical.count(both(where, f"serial >= {low}", f"serial < {middle}"), at)
        if offset >= skipped + below:
            low, skipped, n = middle, skipped + below, n - below
        else:
            high, n = middle, below
    found: list[tuple[int, str]] = []
    width = high - low
    while low < end and len(found) < offset - skipped + limit:
        checkpoint()
        between = both(where, f"serial >= {low}", f"serial < {low + width}")
        part = physical.query(between, [SERIAL], at)
        found += sorted(zip(part.serials.tolist(), part.ids, strict=True))
        low += width
        # No more items than serial numbers.
        width = min(2 * width, _MOST_READ) if len(part.ids) < _FEW_MATCHES else _FEW_MATCHES
    first = offset - skipped
    return [name for _, name in found[first : first + limit]], total


def by_ids(
    physical: Physical, ids: Sequence[str], fields: Sequence[str], at: At, size: int = REACH
) -> Iterator[tuple[Columns, NDArray[np.int64]]]:
    """Yield the items of ids, `size` at a time, and for each id its place there, -1 if missing."""
    for first in range(0, len(ids), size):
        part = ids[first : first + size]
        columns = physical.query(among(texts(part)), fields, at)
        places = {name: place for place, name in enumerate(columns.ids)}
        yield columns, np.array([places.get(name, -1) for name in part], np.int64)


class Moment:
    """The items of one moment: a `Moment` of `index.backend`.

    Serial numbers, labels and codes are in memory. Descriptors are read when they are wanted; if
    one of these items has been written again by then, that raises Unavailable.
    """

    def __init__(
        self,
        physical: Physical,
        name: str,
        kept: DescriptorType | None,
        now: Callable[[], Now],
        n_bits: int,
    ) -> None:
        self._physical, self._name, self._kept = physical, name, kept
        parts = [*scan(physical, "", [LABEL, CODE], now, REACH)]
        self._at = now().at
        columns = joined(parts, n_bits)
        if (np.diff(columns.serials) < 0).any():  # Of items that were written meanwhile.
            columns = chosen(columns, np.argsort(columns.serials))
        self.serials, self.labels, self.codes = columns.serials, columns.labels, columns.codes

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.serials)

    def words(self, places: NDArray[np.integer]) -> Words:
        """Return codes as 64-bit words."""
        return to_words(self.codes[places])

    def descriptors(self, places: NDArray[np.integer]) -> NDArray[Any]:
        """Return descriptors; raise InvalidItems if the collection keeps none."""
        check_keeps_descriptors(self._name, self._kept)
        kept = self._kept or "float32"
        wanted = self.serials[places]
        parts = []
        for first in range(0, len(wanted), FEW):
            part = wanted[first : first + FEW]
            listed = ", ".join(map(str, np.unique(part).tolist()))
            found = self._physical.query(f"serial in [{listed}]", [SERIAL, DESCRIPTOR], self._at)
            serials = found.serials
            order = np.argsort(serials)
            at = np.searchsorted(serials, part, sorter=order)
            if not len(order) or (serials[order[np.minimum(at, len(order) - 1)]] != part).any():
                raise Unavailable("items were written while they were measured: try again later")
            rows = as_descriptors(found.descriptors, kept)
            parts.append(rows[order[at]])
        return np.concatenate(parts) if parts else np.empty((0, 1), kept)


def sample(physical: Physical, n: int, end: int, limit: int, seed: int, at: At) -> Codes | None:
    """Return codes of `limit` of n items, drawn by their serial numbers.

    Return None where drawing would take too many calls: more than half of the items are wanted,
    most serial numbers are gaps, or many items are deleted meanwhile.
    """
    if not 0 < limit <= n // 2 or n < end // 20:
        return None
    rng = np.random.default_rng(seed)
    found: dict[int, NDArray[np.uint8]] = {}
    drawn: set[int] = set()
    order: list[int] = []
    # Each number that is new is one of an item with a probability of n / (2 end) at least.
    for _ in range(10 + 3 * limit * end // (n * REACH)):
        size = min(REACH, 2 * (limit - len(order)) * end // n)
        listed = dict.fromkeys(rng.integers(0, end, size).tolist())
        new = [each for each in listed if each not in drawn]
        if not new:
            continue
        drawn.update(new)
        part = physical.query(f"serial in [{', '.join(map(str, new))}]", [SERIAL, CODE], at)
        found.update(zip(part.serials.tolist(), part.codes, strict=True))
        order += [each for each in new if each in found]
        if len(order) >= limit:
            return np.stack([found[each] for each in order[:limit]])
    return None
