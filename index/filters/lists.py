"""The distinct lists of a field, and conditions on what they contain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from index.filters.values import Test, Values
from index.memory.ids import narrow
from index.memory.view import Mask


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
        self, elements: Values, places: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> None:
        self.elements = elements
        self._places, self._sizes = narrow(places), narrow(sizes)

    @property
    def nbytes(self) -> int:
        """Memory that the lists occupy."""
        return self.elements.nbytes + self._places.nbytes + self._sizes.nbytes

    def meeting(self, test: Test) -> Mask:
        """Return a mask of the lists that have one of the values or, with `every`, all of them."""
        met = np.zeros(len(self._sizes), bool)
        if test.every and not test.wanted:
            met[1:] = True
            return met
        filled = np.flatnonzero(self._sizes)
        if not len(filled):
            return met
        is_wanted = self.elements.meeting(test)[self._places]
        ends = np.cumsum(self._sizes, dtype=np.int64)[filled]
        n_wanted = np.add.reduceat(is_wanted, ends - self._sizes[filled], dtype=np.int64)
        met[filled] = n_wanted == len(test.wanted) if test.every else n_wanted > 0
        return met

    @classmethod
    def join(
        cls, parts: Sequence[Lists], used: Sequence[NDArray[np.int64]]
    ) -> tuple[Lists, list[NDArray[np.int64]]]:
        """Return the lists that are used of all parts, and where those of each part are then.

        `used` are the places of the lists that are used of each part.
        """
        some = [part._elements_of(places) for part, places in zip(parts, used, strict=True)]
        elements, moved = Values.join(
            [part.elements for part in parts], [np.unique(places) for places, _ in some]
        )
        # Lists as bytes, the hash of which nobody can choose.
        place_of: dict[bytes, int] = {}
        new_places = []
        for part, lists, new, (places, sizes) in zip(parts, used, moved, some, strict=True):
            data = new[places].astype(np.uintc).tobytes()
            ends = (np.cumsum(sizes) * np.dtype(np.uintc).itemsize).tolist()
            starts = [0, *ends][:-1]
            place = np.zeros(len(part._sizes), np.int64)
            for at, start, end in zip(lists.tolist(), starts, ends, strict=True):
                if at:
                    place[at] = place_of.setdefault(data[start:end], len(place_of) + 1)
            new_places.append(place)
        joined = np.frombuffer(b"".join(place_of), np.uintc)
        lengths = np.array([0, *map(len, place_of)], np.int64) // joined.itemsize
        return cls(elements, joined.astype(np.int64), lengths), new_places

    def _elements_of(
        self, lists: NDArray[np.int64]
    ) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
        """Return the elements of some lists, one list after the other, and the size of each."""
        ends = np.cumsum(self._sizes, dtype=np.int64)[lists]
        sizes = self._sizes[lists].astype(np.int64)
        shift = np.repeat(ends - np.cumsum(sizes), sizes)
        return self._places[np.arange(len(shift)) + shift], sizes
