"""The values of some rows: each row as a place among the distinct values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from sys import getsizeof
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.filters.lists import Lists, list_key
from index.filters.values import READY, Test, Value, Values, as_value
from index.memory.ids import narrow
from index.memory.view import Mask

# Bytes that a dictionary takes for each key, in addition to the key itself.
_PER_KEY = 100


@dataclass(frozen=True)
class Block:
    """The values of some rows, each as its place among the distinct values or lists."""

    values: Values | Lists
    places: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def nbytes(self) -> int:
        """Memory that the block occupies."""
        return self.places.nbytes + self.values.nbytes

    def meeting(self, test: Test) -> Mask:
        """Return a mask of the rows that meet a condition."""
        met: Mask = self.values.meeting(test)[self.places]
        return met

    @classmethod
    def join(cls, blocks: Sequence[Block]) -> Block:
        """Return a block of the rows of all blocks, in their order."""
        used = [np.bincount(block.places).nonzero()[0] for block in blocks]
        kind: Any = type(blocks[0].values)
        values, moved = kind.join([block.values for block in blocks], used)
        places = [narrow(new)[block.places] for new, block in zip(moved, blocks, strict=True)]
        return cls(values, np.concatenate(places))


class Growing(ABC):
    """A block while its rows are read, a chunk at a time.

    Attributes
    ----------
    nbytes : int
        Memory that it occupies.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        # The places are in the order in which the values came.
        self._place_of: dict[Value, int] = {}
        self._places: list[NDArray[np.integer]] = []

    def _add_values(self, found: list[Any]) -> list[Any]:
        """Give a place to each value that has none yet; return them as `as_value` does."""
        # Calling `as_value` for each of them would take most of the time.
        values = found if READY.issuperset(map(type, found)) else list(map(as_value, found))
        for value in set(values).difference(self._place_of):
            self._place_of[value] = len(self._place_of)
            self.nbytes += getsizeof(value) + _PER_KEY
        return values

    def _add_places(self, places: NDArray[np.int64]) -> None:
        self._places.append(narrow(places))
        self.nbytes += self._places[-1].nbytes

    def _sorted(self) -> tuple[Values, NDArray[np.int64]]:
        """Return the values in order, and for each place so far its place there."""
        values = Values(self._place_of)
        sorted_place = {value: place for place, value in enumerate(values.in_order())}
        return values, np.array([sorted_place[value] for value in self._place_of], np.int64)

    def _all_places(self) -> NDArray[np.integer]:
        return np.concatenate([np.empty(0, np.uint8), *self._places])

    @abstractmethod
    def add(self, found: list[Any]) -> None:
        """Append rows with these values, as `as_value` takes them."""

    @abstractmethod
    def finish(self) -> Block:
        """Return the rows so far as a block."""


class GrowingBlock(Growing):
    """A growing block of values."""

    def add(self, found: list[Any]) -> None:
        """Append rows with these values, as `as_value` takes them."""
        if found:
            values = self._add_values(found)
            places = map(self._place_of.__getitem__, values)
            self._add_places(np.fromiter(places, np.int64, len(values)))

    def finish(self) -> Block:
        """Return the rows so far as a block."""
        values, moved = self._sorted()
        return Block(values, narrow(moved)[self._all_places()])


class GrowingLists(Growing):
    """A growing block of lists."""

    def __init__(self) -> None:
        super().__init__()
        self._list_place: dict[bytes, int] = {}
        self._sizes = [0]
        self._elements: list[NDArray[np.integer]] = [np.empty(0, np.uint8)]

    def add(self, found: list[Any]) -> None:
        """Append rows with these values, of which only the lists count."""
        if found:
            new = array("I")
            places = [self._place(value, new) for value in found]
            self._add_places(np.array(places, np.int64))
            self._elements.append(narrow(np.array(new, np.int64)))
            self.nbytes += self._elements[-1].nbytes

    def _place(self, value: Any, new: array[int]) -> int:
        """Return the place of a list; append its elements to `new` if it has none yet."""
        if type(value) is not list:
            return 0
        values = self._add_values(value)
        elements = array("I", dict.fromkeys(map(self._place_of.__getitem__, values)))
        key = list_key(elements.tobytes())
        if key not in self._list_place:
            self._list_place[key] = len(self._list_place) + 1
            self._sizes.append(len(elements))
            new.extend(elements)
            self.nbytes += getsizeof(key) + _PER_KEY
        return self._list_place[key]

    def finish(self) -> Block:
        """Return the rows so far as a block."""
        elements, moved = self._sorted()
        moved_narrow = narrow(moved)
        places = np.concatenate([moved_narrow[part] for part in self._elements])
        return Block(Lists(elements, places, np.array(self._sizes)), self._all_places())
