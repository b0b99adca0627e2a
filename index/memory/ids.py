"""Many ids in little memory, found by name and by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

# Ids per block, which bounds the memory.
_BLOCK = 1 << 16
# Where an id has more bytes, ids are sorted as Python strings: rows of equal width would take too
# much memory.
_MAX_WIDTH = 64


def narrow(values: NDArray[np.int64]) -> NDArray[np.integer]:
    """Return the same numbers in the smallest integer type that holds them."""
    if not len(values):
        return values.astype(np.int8)
    low, high = int(values.min()), int(values.max())
    # The type of a negative number is signed; signed and unsigned ones have float64 in common.
    farthest = -high - 1 if low < 0 <= high else high
    return values.astype(np.result_type(np.min_scalar_type(low), np.min_scalar_type(farthest)))


def pack(ids: Sequence[str]) -> tuple[bytes, NDArray[np.int64]]:
    """Return the UTF-8 of all ids, one after the other, and the length of each in bytes."""
    text = "".join(ids)
    data = text.encode()
    if len(data) == len(text):
        return data, np.fromiter(map(len, ids), np.int64, len(ids))
    return data, np.array([len(item_id.encode()) for item_id in ids], np.int64)


class Ids:
    """Ids by row: their UTF-8 as one run of bytes, and a hash table of rows.

    The table takes about eight bytes per id. It uses Python's own hash, whose key differs from
    process to process, so that nobody can choose ids that collide.
    """

    def __init__(self, data: bytes, lengths: NDArray[np.int64]) -> None:
        n = len(lengths)
        ends = np.zeros(n + 1, np.int64)
        np.cumsum(lengths, out=ends[1:])
        self._data = data
        self._ends = ends.astype(np.uint32 if len(data) < 1 << 32 else np.uint64)
        self._bits = max(1, n.bit_length() - 1)
        buckets = np.concatenate(
            [
                self._bucket(self.names(np.arange(first, min(first + _BLOCK, n))))
                for first in range(0, n, _BLOCK)
            ]
            or [np.empty(0, np.int64)]
        )
        self._offsets = np.zeros((1 << self._bits) + 1, np.uint32)
        np.cumsum(np.bincount(buckets, minlength=1 << self._bits), out=self._offsets[1:])
        self._rows = np.argsort(buckets.astype(np.uint32), kind="stable").astype(np.uint32)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def nbytes(self) -> int:
        """Memory that the ids and the table occupy."""
        arrays = (self._ends, self._offsets, self._rows)
        return len(self._data) + sum(array.nbytes for array in arrays)

    def names(self, rows: NDArray[np.integer]) -> list[str]:
        """Return the ids of rows."""
        data = self._data
        starts, ends = self._ends[rows].tolist(), self._ends[np.asarray(rows) + 1].tolist()
        return [data[start:end].decode() for start, end in zip(starts, ends, strict=True)]

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each id, -1 for unknown ids."""
        found = np.full(len(ids), -1, np.int64)
        if not len(self) or not len(ids):
            return found
        buckets = self._bucket(ids)
        starts = self._offsets[buckets].astype(np.int64)
        sizes = self._offsets[buckets + 1].astype(np.int64) - starts
        place = np.repeat(np.arange(len(ids)), sizes)
        first = np.cumsum(sizes) - sizes
        rows = self._rows[np.arange(len(place)) + np.repeat(starts - first, sizes)].astype(np.int64)
        for i, row, name in zip(place.tolist(), rows.tolist(), self.names(rows), strict=True):
            if ids[i] == name:
                found[i] = row
        return found

    def part(self, rows: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
        """Return the ids of ascending rows, as `pack` does."""
        starts = self._ends[:-1][rows].astype(np.int64)
        lengths = self._ends[1:][rows].astype(np.int64) - starts
        if len(rows) == len(self):
            return self._data, lengths
        return gather(self._data, starts, lengths), lengths

    def _bucket(self, ids: Sequence[str]) -> NDArray[np.int64]:
        return np.fromiter(map(hash, ids), np.int64, len(ids)) & ((1 << self._bits) - 1)


def gather(data: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> bytes:
    """Return runs of bytes, given by start and length, one after the other."""
    source = np.frombuffer(data, np.uint8)
    parts = []
    for first in range(0, len(starts), _BLOCK):
        start, length = starts[first : first + _BLOCK], lengths[first : first + _BLOCK]
        shift = np.repeat(start - (np.cumsum(length) - length), length)
        parts.append(source[np.arange(len(shift)) + shift].tobytes())
    return b"".join(parts)


def sort_order(data: bytes, lengths: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the order that sorts ids; None if they are sorted.

    The order of UTF-8 bytes is that of the characters.
    """
    n, widest = len(lengths), int(lengths.max(initial=0))
    starts = np.cumsum(lengths) - lengths
    if widest > _MAX_WIDTH:
        spans = zip(starts.tolist(), lengths.tolist(), strict=True)
        names = [data[start : start + length] for start, length in spans]
        return np.array(sorted(range(n), key=names.__getitem__), np.int64)
    # Pad with zeros, which sort first: ids are printable and contain none.
    rows = np.zeros((n, max(widest, 1)), np.uint8)
    source = np.frombuffer(data, np.uint8)
    for first in range(0, n, _BLOCK):
        length = lengths[first : first + _BLOCK]
        inside = np.arange(rows.shape[1]) < length[:, None]
        start = int(starts[first]) if n else 0
        rows[first : first + _BLOCK][inside] = source[start : start + int(length.sum())]
    # Big-endian words compare as their bytes do, and much faster.
    padded = np.zeros((n, -(-rows.shape[1] // 8) * 8), np.uint8)
    padded[:, : rows.shape[1]] = rows
    keys = padded.view(">u8").astype(np.uint64)
    if _is_ascending(keys):
        return None
    return np.lexsort(keys.T[::-1])


def _is_ascending(keys: NDArray[np.uint64]) -> bool:
    before = np.zeros(max(len(keys) - 1, 0), bool)
    same = ~before
    for column in keys.T:
        before |= same & (column[:-1] < column[1:])
        same &= column[:-1] == column[1:]
    return bool((before | same).all())


def first_duplicate(ids: Iterable[str]) -> str | None:
    """Return the first id that occurs a second time; None if all are distinct."""
    seen: set[str] = set()
    for item_id in ids:
        if item_id in seen:
            return item_id
        seen.add(item_id)
    return None
