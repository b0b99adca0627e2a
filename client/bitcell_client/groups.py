"""Groups of near-duplicates, read from the three arrays that the service answers with."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import httpx2
import numpy as np
from numpy.typing import NDArray


class DuplicateGroup(NamedTuple):
    """Items that are connected by pairs of near-duplicates.

    `pairs` has two ids and their Hamming distance for each pair.
    """

    items: list[str]
    pairs: list[tuple[str, str, int]]


class DuplicateGroups(Sequence[DuplicateGroup]):
    """All groups that a search for duplicates found, the largest first.

    Attributes
    ----------
    ids : (n,) str
        The items of all groups, one group after the other.
    group : (n,) int64
        The number of the group of each item, from 0.
    pairs : (p, 3) int64
        The places of two items in `ids`, and their Hamming distance.
    """

    def __init__(
        self, ids: NDArray[np.str_], group: NDArray[np.int64], pairs: NDArray[np.int64]
    ) -> None:
        self.ids, self.group, self.pairs = ids, group, pairs
        numbers = np.arange(int(group[-1]) + 2 if len(group) else 1)
        self._starts = np.searchsorted(group, numbers)
        self._first_pairs = np.searchsorted(pairs[:, 0], self._starts)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __repr__(self) -> str:
        return f"<{len(self)} groups of {len(self.ids)} items with {len(self.pairs)} pairs>"

    @overload
    def __getitem__(self, number: int) -> DuplicateGroup: ...
    @overload
    def __getitem__(self, number: slice) -> list[DuplicateGroup]: ...
    def __getitem__(self, number: int | slice) -> DuplicateGroup | list[DuplicateGroup]:
        """Return a group, or some."""
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        at = range(len(self))[number]
        items = self.ids[self._starts[at] : self._starts[at + 1]].tolist()
        pairs = self.pairs[self._first_pairs[at] : self._first_pairs[at + 1]]
        rows = (pairs - [self._starts[at], self._starts[at], 0]).tolist()
        return DuplicateGroup(items, [(items[a], items[b], distance) for a, b, distance in rows])


def read_groups(response: httpx2.Response) -> DuplicateGroups:
    """Read an answer in npy as groups; ValueError for anything else."""
    file = io.BytesIO(response.content)
    ids = _read(file, "U", 1)
    group = _read(file, "i", 1)
    pairs = _read(file, "i", 2)
    if len(group) != len(ids) or pairs.shape[1] != 3 or file.read(1):
        raise ValueError(
            f"expected ids, groups and pairs, got arrays of shapes {ids.shape}, {group.shape} and "
            f"{pairs.shape}"
        )
    steps = np.diff(group, prepend=-1)
    places = pairs[:, :2]
    if not np.isin(steps, (0, 1)).all() or ((places < 0) | (places >= len(ids))).any():
        raise ValueError("expected groups numbered from 0, and pairs of their items")
    return DuplicateGroups(ids, group, pairs)


def _read(file: io.BytesIO, kind: str, dimensions: int) -> NDArray[Any]:
    """Read an array; nothing is allocated for a size that is only claimed."""
    if (version := np.lib.format.read_magic(file)) != (1, 0):
        raise ValueError(f"expected npy of version 1.0, got {version}")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind != kind or len(shape) != dimensions or min(shape) < 0 or is_fortran:
        raise ValueError(
            f"expected an array of kind {kind!r} with {dimensions} dimensions, got {dtype} of "
            f"shape {shape}"
        )
    size = dtype.itemsize
    for length in shape:
        size *= length
    if len(data := file.read(size)) != size:
        raise ValueError(f"expected {dtype} of shape {shape}, got {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)
