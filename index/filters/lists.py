"""The distinct lists of a field, and conditions on what they contain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from index.filters.values import Test, Values
from index.memory.ids import narrow
from index.memory.view import Mask

# Elements that are handled at once, or those of one list, which bounds the memory.
_BLOCK = 1 << 20
_ITEM_SIZE = np.dtype(np.uintc).itemsize
# The key of a list of more bytes is their digest, which is as long.
_KEY_SIZE = 16


def list_key(data: bytes) -> bytes:
    """Return a short key of a list, given by the places of its elements as `uintc`.

    Nobody can choose lists that share a key, nor keys that share a hash of Python.
    """
    return data if len(data) < _KEY_SIZE else blake2b(data, digest_size=_KEY_SIZE).digest()


class Lists:
    """Distinct lists, of which the first stands for all that is no list.

    Parameters
    ----------
    elements : Values
        The distinct elements of all lists. A list or an object in a list is one that is missing.
    places : (e,)
        The elements of each list, each once, as places in `elements`; one list after the other.
    sizes : (n,)
        The number of elements of each list.
    """

    def __init__(
        self, elements: Values, places: NDArray[np.integer], sizes: NDArray[np.int64]
    ) -> None:
        self.elements = elements
        self._places, self._ends = places, narrow(np.cumsum(sizes))

    def __len__(self) -> int:
        """Return the number of lists, with the one for all that is no list."""
        return len(self._ends)

    @property
    def nbytes(self) -> int:
        """Memory that the lists occupy."""
        return self.elements.nbytes + self._places.nbytes + self._ends.nbytes

    def meeting(self, test: Test) -> Mask:
        """Return a mask of the lists that have one of the values or, with `every`, all of them."""
        met = np.zeros(len(self), bool)
        if test.every and not test.wanted:
            met[1:] = True
            return met
        least = len(test.wanted) if test.every else 1
        is_wanted = self.elements.meeting(test)
        for some, places, sizes in self._blocks(np.flatnonzero(np.diff(self._ends, prepend=0))):
            starts = np.cumsum(sizes) - sizes
            met[some] = np.add.reduceat(is_wanted[places], starts, dtype=np.int64) >= least
        return met

    def _blocks(
        self, lists: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.integer], NDArray[np.int64]]]:
        """Yield some of ascending lists at a time, with all their elements and their sizes."""
        if not len(lists):
            return
        ends = self._ends[lists].astype(np.int64)
        for some in np.split(lists, np.flatnonzero(np.diff(ends // _BLOCK)) + 1):
            ends = self._ends[some].astype(np.int64)
            starts = np.where(some > 0, self._ends[some - 1], 0).astype(np.int64)
            sizes = ends - starts
            if ends[-1] - starts[0] == sizes.sum():
                yield some, self._places[starts[0] : ends[-1]], sizes
            else:
                shift = np.repeat(ends - np.cumsum(sizes), sizes)
                yield some, self._places[np.arange(len(shift)) + shift], sizes

    def _used(self, lists: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of the elements of some lists, ascending."""
        is_used = np.zeros(self.elements.size, bool)
        for _, places, _ in self._blocks(lists):
            is_used[places] = True
        return np.flatnonzero(is_used)

    @classmethod
    def join(
        cls, parts: Sequence[Lists], used: Sequence[NDArray[np.int64]]
    ) -> tuple[Lists, list[NDArray[np.int64]]]:
        """Return the lists that are used of all parts, and where those of each part are then.

        `used` are the places of the lists that are used of each part.
        """
        elements, moved = Values.join(
            [part.elements for part in parts],
            [part._used(lists) for part, lists in zip(parts, used, strict=True)],
        )
        place_of: dict[bytes, int] = {}
        kept: list[NDArray[np.integer]] = [np.empty(0, np.uint8)]
        kept_sizes = [np.zeros(1, np.int64)]
        new_places = []
        for part, lists, new in zip(parts, used, map(narrow, moved), strict=True):
            place = np.zeros(len(part), np.int64)
            for some, old, sizes in part._blocks(lists[lists > 0]):
                n, places = len(place_of), new[old]
                ends = np.cumsum(sizes) * _ITEM_SIZE
                place[some] = _places(place_of, places.astype(np.uintc).tobytes(), ends.tolist())
                # Places are given in the order in which lists come, to the first of equal ones.
                firsts = np.unique(place[some], return_index=True)[1]
                is_first = np.zeros(len(some), bool)
                is_first[firsts] = place[some][firsts] > n
                kept.append(places[np.repeat(is_first, sizes)])
                kept_sizes.append(sizes[is_first])
            new_places.append(place)
        return cls(elements, np.concatenate(kept), np.concatenate(kept_sizes)), new_places


def _places(place_of: dict[bytes, int], data: bytes, ends: list[int]) -> list[int]:
    """Return the place of each list in `data`, which ends there; give one to those without."""
    keys = (list_key(data[a:b]) for a, b in zip([0, *ends], ends, strict=False))
    return [place_of.setdefault(key, len(place_of) + 1) for key in keys]
