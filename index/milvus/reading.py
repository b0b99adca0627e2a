"""Reads of many items: all of them, pages of them, and some at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes, Words, code_size, to_words
from index.callbacks import Checkpoint
from index.errors import Unavailable
from index.milvus.columns import (
    CODE,
    DESCRIPTOR,
    LABEL,
    SERIAL,
    Columns,
    as_descriptors,
)
from index.milvus.connection import TooMuch
from index.milvus.fetched import FEW
from index.milvus.physical import REACH, At, Physical, among, quoted
from index.storage.catalog import DescriptorType
from index.validation import check_keeps_descriptors

# Of the items that match, so many are read to sort them.
_FEW_MATCHES = 8192
_MOST_READ = 1 << 17


def both(*conditions: str) -> str:
    """Return the expression of items that meet all conditions; an empty one is met by all."""
    given = [each for each in conditions if each]
    return given[0] if len(given) == 1 else " and ".join(f"({each})" for each in given)


def scan(
    physical: Physical,
    where: str,
    fields: Sequence[str],
    at: At,
    size: int,
    checkpoint: Checkpoint = lambda: None,
) -> Iterator[Columns]:
    """Yield the items that meet an expression in the order of ids, at most `size` at a time.

    An item that is there all the time comes once, as it is when it is read.
    """
    last, limit = "", min(size, REACH)
    while True:
        checkpoint()
        after = f"id > {quoted(last)}" if last else 'id != ""'
        try:
            columns = physical.query(both(after, where), fields, at, limit)
        except TooMuch:
            if limit == 1:
                raise
            limit = max(1, limit // 2)
            continue
        if columns.ids:
            yield columns
        if len(columns.ids) < limit:
            return
        last = columns.ids[-1]


def page(
    physical: Physical, where: str, offset: int, limit: int, end: int, at: At, checkpoint: Checkpoint
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
        if part.serials is not None:
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
        columns = physical.query(among(list(dict.fromkeys(part))), fields, at)
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
        at: At,
        n_bits: int,
        checkpoint: Checkpoint = lambda: None,
    ) -> None:
        self._physical, self._name, self._kept, self._at = physical, name, kept, at
        fields = [SERIAL, LABEL, CODE]
        parts = list(scan(physical, "", fields, at, REACH, checkpoint))
        self.serials = _whole([part.serials for part in parts], np.empty(0, np.int64))
        labels = _whole([part.labels for part in parts], np.empty(0, np.int64))
        codes = [part.codes for part in parts]
        all_codes = _whole(codes, np.empty((0, code_size(n_bits)), np.uint8))
        order = np.argsort(self.serials, kind="stable")
        self.serials, self.labels, self.codes = self.serials[order], labels[order], all_codes[order]

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.serials)

    def words(self, places: NDArray[np.integer]) -> Words:
        """Return codes as 64-bit words."""
        return to_words(self.codes[places])

    def descriptors(self, places: NDArray[np.integer]) -> NDArray[Any]:
        """Return descriptors; raise InvalidItems if the collection keeps none."""
        check_keeps_descriptors(self._name, self._kept)
        assert self._kept is not None
        wanted = self.serials[places]
        parts = []
        for first in range(0, len(wanted), FEW):
            part = wanted[first : first + FEW]
            listed = ", ".join(map(str, np.unique(part).tolist()))
            found = self._physical.query(f"serial in [{listed}]", [SERIAL, DESCRIPTOR], self._at)
            serials = found.serials if found.serials is not None else np.empty(0, np.int64)
            order = np.argsort(serials)
            at = np.searchsorted(serials, part, sorter=order)
            if not len(order) or (serials[order[np.minimum(at, len(order) - 1)]] != part).any():
                raise Unavailable("items were written while they were measured: try again later")
            rows = as_descriptors(found.descriptors or [], self._kept)
            parts.append(rows[order[at]])
        return np.concatenate(parts) if parts else np.empty((0, 1), self._kept)


def _whole(parts: Sequence[Any], empty: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else empty


def sample(
    physical: Physical, n: int, end: int, limit: int, seed: int, at: At
) -> Codes | None:
    """Return codes of `limit` of n items, drawn by their serial numbers; None if most are gaps."""
    if limit >= n or n < end // 20:
        return None
    rng = np.random.default_rng(seed)
    found: dict[int, NDArray[np.uint8]] = {}
    drawn: set[int] = set()
    order: list[int] = []
    while len(order) < limit:
        new = [
            each
            for each in rng.integers(0, end, min(REACH, 2 * (limit - len(order)) * end // n)).tolist()
            if each not in drawn
        ]
        new = list(dict.fromkeys(new))
        if not new and len(drawn) >= end:
            return None
        drawn.update(new)
        part = physical.query(f"serial in [{', '.join(map(str, new))}]", [SERIAL, CODE], at)
        if part.serials is not None and part.codes is not None:
            found.update(zip(part.serials.tolist(), part.codes, strict=True))
        order += [each for each in new if each in found]
    return np.stack([found[each] for each in order[:limit]])

