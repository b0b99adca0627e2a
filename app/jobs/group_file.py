"""Groups of items in a compact file that is read in parts, and the two forms it is served in."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray
from pydantic_core import to_json

from bitcodes.near_groups import Groups

Read = Callable[[int, int], bytes]
"""(offset, size) to bytes of the file."""

_VERSION = 1
_HEAD = np.dtype(np.int64)
# Version; numbers of items, groups and pairs; bytes of all ids; characters of the longest id.
_N_HEAD = 6
# What is read and sent at once: items and pairs, at most, and bytes of the ids in npy. A part stays
# in memory until the client has read it.
_CHUNK = 1 << 12
_ID_BYTES = 256 << 10
# Bytes of a section that are read at once.
_WINDOW = 1 << 20


def pack(ids: Sequence[bytes], groups: Groups) -> bytes:
    """Return a file of groups; `ids` are those of `groups.rows`, in UTF-8."""
    n_pairs = _pairs_of_groups(groups)
    width = max((len(one.decode()) for one in ids), default=1)
    parts: list[NDArray[Any]] = [groups.sizes, n_pairs, np.array([*map(len, ids)], np.uint16)]
    text = b"".join(ids)
    numbers = [_VERSION, len(ids), len(groups.sizes), len(groups.pairs), len(text), width]
    head = np.array(numbers, _HEAD).tobytes()
    tail = (groups.pairs.tobytes(), groups.distances.tobytes())
    return b"".join([head, *(part.tobytes() for part in parts), text, *tail])


def _pairs_of_groups(groups: Groups) -> NDArray[np.int64]:
    """Return how many pairs each group has."""
    ends = np.searchsorted(groups.pairs[:, 0], np.cumsum(groups.sizes))
    return np.diff(ends, prepend=0).astype(np.int64)


class GroupFile:
    """A file that `pack` made; it is read from the front, a bounded part at a time."""

    def __init__(self, read: Read) -> None:
        head = np.frombuffer(read(0, _N_HEAD * _HEAD.itemsize), _HEAD).tolist()
        version, self.n_items, self.n_groups, self.n_pairs, n_bytes, self.width = head
        if version != _VERSION:
            raise ValueError(f"expected groups of version {_VERSION}, got {version}")
        self._read = read
        self._id_type = np.dtype(f"<U{max(1, self.width)}")
        self._chunk = max(1, min(_CHUNK, _ID_BYTES // self._id_type.itemsize))
        self._sizes_at = len(head) * _HEAD.itemsize
        self._counts_at = self._sizes_at + 8 * self.n_groups
        self._lengths_at = self._counts_at + 8 * self.n_groups
        self._ids_at = self._lengths_at + 2 * self.n_items
        self._pairs_at = self._ids_at + n_bytes
        self._distances_at = self._pairs_at + 8 * self.n_pairs

    def lines(self) -> Iterator[bytes]:
        """Yield JSON lines, in parts: for each group its ids, and its pairs as places in them.

        A line is `{"items": [id, …], "pairs": [[place, place, distance], …]}`.
        """
        ids, pairs = self._ids(), self._pairs()
        first = 0
        for sizes, counts in self._groups():
            # A group that is too large for one part comes alone.
            if len(sizes) == 1:
                yield b'{"items":['
                yield from _joined(ids.parts(int(sizes[0]), self._chunk))
                yield b'],"pairs":['
                places = np.array([first, first, 0])
                yield from _joined((part - places).tolist() for part in pairs.parts(int(counts[0])))
                yield b"]}\n"
            else:
                yield b"".join(_lines(ids, pairs, sizes, counts, first))
            first += int(sizes.sum())

    def npy(self) -> Iterator[bytes]:
        """Yield three arrays as `numpy.save` writes them, in parts: ids, groups and pairs.

        They are the id of each item, (n,); the number of its group, (n,) int64; and (p, 3) int64:
        the places of two items and their distance.
        """
        yield _npy_head(self._id_type, (self.n_items,))
        for part in self._ids().parts(self.n_items, self._chunk):
            yield np.array(part, self._id_type).tobytes()
        yield _npy_head(np.dtype(np.int64), (self.n_items,))
        number = 0
        for sizes, _ in self._groups():
            if len(sizes) == 1:
                for n in _cut(int(sizes[0]), _CHUNK):
                    yield np.full(n, number, np.int64).tobytes()
            else:
                yield np.repeat(np.arange(number, number + len(sizes)), sizes).tobytes()
            number += len(sizes)
        yield _npy_head(np.dtype(np.int64), (self.n_pairs, 3))
        for pairs in self._pairs().parts(self.n_pairs):
            yield pairs.tobytes()

    def _groups(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield the items and pairs of each group: for some groups at a time, at least one."""
        sections = [_Section(self._read, at) for at in (self._sizes_at, self._counts_at)]
        for first in range(0, self.n_groups, _CHUNK):
            n = min(_CHUNK, self.n_groups - first)
            sizes, counts = (np.frombuffer(section.take(8 * n), np.int64) for section in sections)
            ends = np.cumsum(sizes + counts)
            start = 0
            while start < n:
                before = int(ends[start - 1]) if start else 0
                end = max(start + 1, int(np.searchsorted(ends, before + self._chunk, side="right")))
                yield sizes[start:end], counts[start:end]
                start = end

    def _ids(self) -> _Ids:
        return _Ids(self._read, self._lengths_at, self._ids_at)

    def _pairs(self) -> _Pairs:
        return _Pairs(self._read, self._pairs_at, self._distances_at)


class _Section:
    """Reads one section of the file, from its start."""

    def __init__(self, read: Read, at: int) -> None:
        self._read, self._at = read, at
        self._window, self._used = b"", 0

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        left = len(self._window) - self._used
        if left < size:
            # Each read has to find its place in the database, so there should be few.
            more = self._read(self._at, max(size - left, _WINDOW))
            self._window, self._used = self._window[self._used :] + more, 0
            self._at += len(more)
        self._used += size
        return self._window[self._used - size : self._used]


class _Ids:
    """Reads ids, one after the other."""

    def __init__(self, read: Read, lengths_at: int, ids_at: int) -> None:
        self._lengths, self._texts = _Section(read, lengths_at), _Section(read, ids_at)

    def take(self, n: int) -> list[str]:
        """Return the next n ids."""
        lengths = np.frombuffer(self._lengths.take(2 * n), np.uint16)
        ends = np.cumsum(lengths, dtype=np.int64)
        text = self._texts.take(int(ends[-1]) if n else 0)
        spans = zip((ends - lengths).tolist(), ends.tolist(), strict=True)
        return [text[start:end].decode() for start, end in spans]

    def parts(self, n: int, chunk: int) -> Iterator[list[str]]:
        """Return the next n ids, `chunk` at a time."""
        return map(self.take, _cut(n, chunk))


class _Pairs:
    """Reads pairs, one after the other."""

    def __init__(self, read: Read, pairs_at: int, distances_at: int) -> None:
        self._pairs, self._distances = _Section(read, pairs_at), _Section(read, distances_at)

    def take(self, n: int) -> NDArray[np.int64]:
        """Return the next n pairs, (n, 3)."""
        pairs = np.frombuffer(self._pairs.take(8 * n), np.uint32).reshape(n, 2)
        distances = np.frombuffer(self._distances.take(2 * n), np.uint16)
        return np.column_stack([pairs, distances]).astype(np.int64)

    def parts(self, n: int) -> Iterator[NDArray[np.int64]]:
        """Return the next n pairs, some at a time."""
        return map(self.take, _cut(n, _CHUNK))


def _lines(
    ids: _Ids, pairs: _Pairs, sizes: NDArray[np.int64], counts: NDArray[np.int64], first: int
) -> Iterator[bytes]:
    """Yield the lines of the next groups, whose first item has the place `first`."""
    names, triples = ids.take(int(sizes.sum())), pairs.take(int(counts.sum()))
    starts = np.cumsum(sizes) - sizes
    triples[:, :2] -= np.repeat(starts + first, counts)[:, None]
    rows = triples.tolist()
    item = pair = 0
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        line = {"items": names[item : item + size], "pairs": rows[pair : pair + count]}
        yield to_json(line) + b"\n"
        item, pair = item + size, pair + count


def _joined(parts: Iterator[list[Any]]) -> Iterator[bytes]:
    """Yield the elements of lists as JSON, with commas between them."""
    for number, part in enumerate(parts):
        yield (b"," if number else b"") + to_json(part)[1:-1]


def _cut(n: int, chunk: int) -> Iterator[int]:
    """Yield the sizes of the parts of n things, `chunk` at a time."""
    for first in range(0, n, chunk):
        yield min(chunk, n - first)


def _npy_head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    head = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    npy_format.write_array_header_1_0(file, head)
    return file.getvalue()
