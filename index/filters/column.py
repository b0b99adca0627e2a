"""A field of payloads as a column: its distinct values in order, and each row as a place there.

A condition is looked up among the distinct values, not item by item.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import chain
from sys import getsizeof
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from index.memory.ids import narrow
from index.memory.segment import Segment
from index.memory.view import Mask, View

# Bytes that a list or a dictionary takes for each value, in addition to the value itself.
_PER_PLACE = 8
_PER_KEY = 100
# Bytes that a column takes in addition to its arrays and values.
_PER_COLUMN = 4096
# If a column has more blocks, all but the first are joined into one.
_MAX_BLOCKS = 32


class Other(Enum):
    """A value that is neither number nor string. Lists and objects count as missing."""

    MISSING = 0
    NULL = 1
    TRUE = 2
    FALSE = 3

    # That of `Enum` is a Python function, which would take most of the time of reading a column.
    __hash__ = object.__hash__


class LongInteger(int):
    """An integer of more than 64 bits.

    Anybody can choose many of them that share a hash of Python, with which a dictionary of them
    would take the square of their number of steps. So they have another hash.
    """

    def __hash__(self) -> int:
        """Return the hash of the digits, which differs from process to process."""
        return hash(hex(self))


Value = float | str | Other
# These are values as they are. An integer may be too long.
_READY = {float, str, Other}


def as_value(value: Any) -> Value:
    """Convert a value from JSON. Unlike in Python, 1 and true are different values."""
    if value is None:
        return Other.NULL
    if isinstance(value, bool):
        return Other.TRUE if value else Other.FALSE
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else LongInteger(value)
    return value if isinstance(value, float | str | Other) else Other.MISSING


@dataclass(frozen=True)
class Test:
    """A condition on a field: it is one of `values` or, if there are any bounds, within them."""

    values: Sequence[Any]
    bounds: Mapping[str, Any]


class Values:
    """Distinct values in order: those of `Other`, then numbers, then strings, each ascending."""

    def __init__(self, values: Iterable[Value]) -> None:
        distinct = set(values)
        self._numbers = sorted(v for v in distinct if isinstance(v, int | float))
        self._texts = sorted(v for v in distinct if isinstance(v, str))

    @cached_property
    def nbytes(self) -> int:
        """Memory that the values occupy."""
        n = len(self._numbers) + len(self._texts)
        return _PER_PLACE * n + sum(map(getsizeof, chain(self._numbers, self._texts)))

    def in_order(self) -> Iterable[Value]:
        """Return all values in their order."""
        return chain(Other, self._numbers, self._texts)

    def meeting(self, test: Test) -> Mask:
        """Return a mask of the values that meet a condition."""
        n = len(Other) + len(self._numbers) + len(self._texts)
        if not test.bounds:
            met = np.zeros(n, bool)
            for value in test.values:
                met[self._equal(as_value(value))] = True
            return met
        met = np.ones(n, bool)
        for name, bound in test.bounds.items():
            within = self._within(name, bound)
            met[: within.start] = met[within.stop :] = False
        return met

    def _equal(self, value: Value) -> slice:
        if isinstance(value, Other):
            return slice(value.value, value.value + 1)
        same_type, first = self._same_type(value)
        return slice(first + bisect_left(same_type, value), first + bisect_right(same_type, value))

    def _within(self, name: str, bound: float | str) -> slice:
        same_type, first = self._same_type(bound)
        place = (bisect_right if name in ("gt", "lte") else bisect_left)(same_type, bound)
        if name in ("gt", "gte"):
            return slice(first + place, first + len(same_type))
        return slice(first, first + place)

    def _same_type(self, value: float | str) -> tuple[Sequence[Any], int]:
        """Return the values of the same type, and the place of the first of them."""
        if isinstance(value, str):
            return self._texts, len(Other) + len(self._numbers)
        return self._numbers, len(Other)


@dataclass(frozen=True)
class Block:
    """The values of some rows, each as its place among the distinct values."""

    values: Values
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
        used = [np.bincount(block.places).nonzero()[0].tolist() for block in blocks]
        ordered = [list(block.values.in_order()) for block in blocks]
        values = Values(
            of_block[place]
            for of_block, places in zip(ordered, used, strict=True)
            for place in places
        )
        place_of = {value: place for place, value in enumerate(values.in_order())}
        moved = []
        for block, of_block, places in zip(blocks, ordered, used, strict=True):
            new_places = np.zeros(len(of_block), np.int64)
            new_places[places] = [place_of[of_block[place]] for place in places]
            moved.append(narrow(new_places)[block.places])
        return cls(values, np.concatenate(moved))


class GrowingBlock:
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

    def add(self, found: list[Any]) -> None:
        """Append rows with these values, as `as_value` takes them."""
        if not found:
            return
        # Calling `as_value` for each of them would take most of the time.
        values = found if _READY.issuperset(map(type, found)) else list(map(as_value, found))
        for value in set(values).difference(self._place_of):
            self._place_of[value] = len(self._place_of)
            self.nbytes += getsizeof(value) + _PER_KEY
        places = narrow(np.fromiter(map(self._place_of.__getitem__, values), np.int64, len(values)))
        self._places.append(places)
        self.nbytes += places.nbytes

    def finish(self) -> Block:
        """Return the rows so far as a block."""
        values = Values(self._place_of)
        sorted_place = {value: place for place, value in enumerate(values.in_order())}
        moved = np.array([sorted_place[value] for value in self._place_of], np.int64)
        places = np.concatenate([np.empty(0, np.uint8), *self._places])
        return Block(values, narrow(moved)[places])


@dataclass(frozen=True)
class Column:
    """The values of one field, for the first rows of a view or for all of them.

    Attributes
    ----------
    segment : weak reference to a Segment
        Weak, so that the column does not keep its codes and tables in memory. If the column is of
        no view, a function that returns None.
    blocks : tuple of Block
        The values of the rows, in their order.
    serials : (n,)
        Serial numbers of the rows of the segment.
    tail : (t,)
        Serial numbers of the rows after them.
    """

    segment: Callable[[], Segment | None]
    blocks: tuple[Block, ...]
    serials: NDArray[np.integer]
    tail: NDArray[np.int64]

    @classmethod
    def of(cls, view: View, blocks: Sequence[Block]) -> Column:
        """Return a column of the first rows of a view."""
        return cls(ref(view.segment), _few(blocks), view.segment.serials, view.tail_serials)

    def longer_tail(self, serials: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the tail, as far as its rows are there, with more serial numbers after it."""
        return np.concatenate([self.tail[: len(self) - len(self.serials)], serials])

    def with_more(self, tail: NDArray[np.int64], block: Block) -> Column:
        """Return a column of no view, for those of views to be made from.

        It also has the rows of a block. `tail` is the `longer_tail` that has them.
        """
        return Column(lambda: None, _few([*self.blocks, block]), self.serials, tail)

    @property
    def rows_key(self) -> tuple[int, ...]:
        """What is equal only for columns with the same rows, while both exist."""
        return id(self.serials), id(self.tail), len(self)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._n_rows

    @cached_property
    def _n_rows(self) -> int:
        return sum(map(len, self.blocks))

    @cached_property
    def nbytes(self) -> int:
        """Memory that the column occupies, with the serial numbers that it shares with others."""
        arrays = self.serials.nbytes + self.tail.nbytes
        return _PER_COLUMN + arrays + sum(block.nbytes for block in self.blocks)

    def is_of(self, view: View) -> bool:
        """Return whether the rows are the first ones of this view."""
        return self.segment() is view.segment

    @property
    def is_partial(self) -> bool:
        """Whether rows of the segment are lacking."""
        return len(self) < len(self.serials)

    def covers(self, view: View) -> bool:
        """Return whether all rows of the view are among the rows of the column, as the first."""
        return self.is_of(view) and len(self) >= view.n_rows

    def n_unread(self, view: View) -> int:
        """Return of how many rows of a view the payloads have to be read, or slightly more."""
        if self.is_of(view):
            return max(0, view.n_rows - len(self))
        if self.is_partial:
            return view.n_rows
        # Serial numbers are given in the order of insertion.
        return max(0, _newest(view.segment.serials, view.tail_serials) - self._newest)

    @cached_property
    def _newest(self) -> int:
        return int(self.known_serials().max(initial=-1))

    def known_serials(self) -> NDArray[np.int64]:
        """Return the serial numbers of the rows."""
        return np.concatenate([self.serials.astype(np.int64), self.tail])[: len(self)]

    def meeting(self, test: Test) -> Mask:
        """Return a mask of the rows that meet a condition."""
        # Without rows there are no blocks.
        return np.concatenate([np.empty(0, bool), *(block.meeting(test) for block in self.blocks)])


def _few(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return the same rows in at most `_MAX_BLOCKS` blocks."""
    if len(blocks) > _MAX_BLOCKS:
        blocks = [blocks[0], Block.join(blocks[1:])]
    return tuple(blocks)


def _newest(serials: NDArray[np.integer], tail: NDArray[np.int64]) -> int:
    if len(tail):
        return int(tail[-1])
    return int(serials.max()) if len(serials) else -1
