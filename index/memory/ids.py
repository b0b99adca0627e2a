"""Many ids in little memory, found by name and by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 16
# Ids longer than this are sorted as Python strings: rows of equal width would take too much.
_WIDE = 64


def narrow(values: NDArray[np.int64]) -> NDArray[np.integer]:
    """The same numbers in the smallest integers that hold them."""
    if not len(values):
        return values.astype(np.int8)
    low, high = int(values.min()), int(values.max())
    return values.astype(np.result_type(np.min_scalar_type(low), np.min_scalar_type(high)))


def pack(ids: Sequence[str]) -> tuple[bytes, NDArray[np.int64]]:
    """UTF-8 of all ids in one, and the length of each in bytes."""
    text = "".join(ids)
    data = text.encode()
    if len(data) == len(text):
        return data, np.fromiter(map(len, ids), np.int64, len(ids))
    return data, np.array([len(item_id.encode()) for item_id in ids], np.int64)


class Ids:
    """Ids by row: their UTF-8 in one run of bytes, and a table from hash to rows.

    Some eight bytes an id beside the text. Python's own hash, keyed anew in each process, is the
    one used, so that ids cannot be chosen to collide.
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
                self._bucket(self.names(np.arange(first, min(first + _CHUNK, n))))
                for first in range(0, n, _CHUNK)
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
        """Memory held."""
        arrays = (self._ends, self._offsets, self._rows)
        return len(self._data) + sum(array.nbytes for array in arrays)

    def names(self, rows: NDArray[np.integer]) -> list[str]:
        """The ids of rows."""
        data = self._data
        starts, ends = self._ends[rows].tolist(), self._ends[np.asarray(rows) + 1].tolist()
        return [data[start:end].decode() for start, end in zip(starts, ends, strict=True)]

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each id, -1 where there is none."""
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
        """UTF-8 and lengths of the ids of ascending rows."""
        starts = self._ends[:-1][rows].astype(np.int64)
        lengths = self._ends[1:][rows].astype(np.int64) - starts
        if len(rows) == len(self):
            return self._data, lengths
        return gather(self._data, starts, lengths), lengths

    def _bucket(self, ids: Sequence[str]) -> NDArray[np.int64]:
        return np.fromiter(map(hash, ids), np.int64, len(ids)) & ((1 << self._bits) - 1)


def gather(data: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> bytes:
    """Runs of bytes, one after the other."""
    source = np.frombuffer(data, np.uint8)
    parts = []
    for first in range(0, len(starts), _CHUNK):
        start, length = starts[first : first + _CHUNK], lengths[first : first + _CHUNK]
        shift = np.repeat(start - (np.cumsum(length) - length), length)
        parts.append(source[np.arange(len(shift)) + shift].tobytes())
    return b"".join(parts)


def sort_order(data: bytes, lengths: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The order of ids by their UTF-8, which is that of their characters; None if it is theirs."""
    n, widest = len(lengths), int(lengths.max(initial=0))
    starts = np.cumsum(lengths) - lengths
    if widest > _WIDE:
        each = zip(starts.tolist(), lengths.tolist(), strict=True)
        names = [data[start : start + length] for start, length in each]
        return np.array(sorted(range(n), key=names.__getitem__), np.int64)
    # Ids are printable: none holds the zeros that fill up the rows.
    rows = np.zeros((n, max(widest, 1)), np.uint8)
    source = np.frombuffer(data, np.uint8)
    for first in range(0, n, _CHUNK):
        length = lengths[first : first + _CHUNK]
        inside = np.arange(rows.shape[1]) < length[:, None]
        start = int(starts[first]) if n else 0
        rows[first : first + _CHUNK][inside] = source[start : start + int(length.sum())]
    # Big-endian words compare as their bytes do, and much faster.
    padded = np.zeros((n, -(-rows.shape[1] // 8) * 8), np.uint8)
    padded[:, : rows.shape[1]] = rows
    keys = padded.view(">u8").astype(np.uint64)
    if _ascending(keys):
        return None
    return np.lexsort(keys.T[::-1])


def _ascending(keys: NDArray[np.uint64]) -> bool:
    before = np.zeros(max(len(keys) - 1, 0), bool)
    same = ~before
    for column in keys.T:
        before |= same & (column[:-1] < column[1:])
        same &= column[:-1] == column[1:]
    return bool((before | same).all())


def duplicates(ids: Iterable[str]) -> str | None:
    """An id that stands twice, or None."""
    seen: set[str] = set()
    for item_id in ids:
        if item_id in seen:
            return item_id
        seen.add(item_id)
    return None
