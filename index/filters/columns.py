"""Fields of payloads as columns, so that a filter parses no payload twice.

A column holds the value of one field for every row of a view, as its place in the sorted list of
distinct values. A condition is looked up among the distinct values, not item by item. The payload
of a serial number never changes, so a new segment takes over the values of the old one, and only
payloads written since then are read.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from threading import Lock
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from index.memory.ids import narrow
from index.memory.segment import Segment
from index.memory.view import Mask, View
from index.storage.record import Record

# Number of fields whose columns are kept: the most recently used.
_MAX_FIELDS = 8
# If a column has more blocks, those of the tail are joined into one.
_MAX_BLOCKS = 32
# Payloads per read.
_CHUNK = 1000


class Other(Enum):
    """A value that is neither number nor string. Lists and objects count as missing."""

    MISSING = 0
    NULL = 1
    TRUE = 2
    FALSE = 3


Value = float | str | Other


def as_value(value: Any) -> Value:
    """Convert a value from JSON. Unlike in Python, 1 and true are different values."""
    if value is None:
        return Other.NULL
    if isinstance(value, bool):
        return Other.TRUE if value else Other.FALSE
    return value if isinstance(value, int | float | str) else Other.MISSING


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

    @classmethod
    def of(cls, row_values: Sequence[Value]) -> Block:
        """Return a block of rows that have these values."""
        values = Values(row_values)
        place_of = {value: place for place, value in enumerate(values.in_order())}
        places = np.fromiter(map(place_of.__getitem__, row_values), np.int64, len(row_values))
        return cls(values, narrow(places))

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
            moved.append(new_places[block.places])
        return cls(values, narrow(np.concatenate(moved)))


@dataclass(frozen=True)
class Column:
    """The values of one field.

    Attributes
    ----------
    segment : weak reference to a Segment
        Weak, so that the column does not keep its codes and tables in memory.
    blocks : list of Block
        The first for the rows of the segment, the others for those of the tail.
    serials : (n,)
        Serial numbers of the rows of the segment.
    tail : (t,)
        Serial numbers of the rows of the tail that the blocks cover.
    """

    segment: ref[Segment]
    blocks: list[Block]
    serials: NDArray[np.integer]
    tail: NDArray[np.int64]

    def covers(self, view: View) -> bool:
        """Return whether the column has all rows of a view, in its order."""
        return self.segment() is view.segment and len(self.tail) >= len(view.tail)


class Columns:
    """The columns of one collection for the fields that filters use."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._columns: OrderedDict[str, Column] = OrderedDict()
        self._lock = Lock()
        self._building = Lock()

    def meeting(self, field: str, test: Test, view: View) -> Mask:
        """Return a mask of the rows of a view in which a field meets a condition.

        The name of a nested field has dots: `a.b` is b within a.
        """
        column = self._columns.get(field)
        if column is None or not column.covers(view):
            with self._building:
                column = self._columns.get(field)
                if column is None or not column.covers(view):
                    column = self._updated(column, field, view)
                    with self._lock:
                        self._columns[field] = column
        with self._lock:
            if field in self._columns:
                self._columns.move_to_end(field)
            if len(self._columns) > _MAX_FIELDS:
                self._columns.popitem(last=False)
        parts = [block.values.meeting(test)[block.places] for block in column.blocks]
        return np.concatenate(parts)[: view.n_rows]

    def _updated(self, column: Column | None, field: str, view: View) -> Column:
        """Return a column that covers a view, made from one that does not."""
        if column is None:
            return self._split(self._read(field, view.serials()), view)
        if column.segment() is not view.segment:
            return self._split(self._carried_over(column, field, view.serials()), view)
        tail = view.tail_serials
        blocks = [*column.blocks, self._read(field, tail[len(column.tail) :])]
        if len(blocks) > _MAX_BLOCKS:
            blocks = [blocks[0], Block.join(blocks[1:])]
        return Column(ref(view.segment), blocks, view.segment.serials, tail)

    def _split(self, block: Block, view: View) -> Column:
        n = len(view.segment)
        blocks = [Block(block.values, part) for part in np.split(block.places, [n])]
        return Column(ref(view.segment), blocks, view.segment.serials, view.tail_serials)

    def _carried_over(self, column: Column, field: str, serials: NDArray[np.int64]) -> Block:
        """Return the values of serial numbers: from a column, or read where it has none."""
        known = np.concatenate([column.serials.astype(np.int64), column.tail])
        order = np.argsort(known)
        place = np.searchsorted(known, serials, sorter=order)
        place[place == len(known)] = 0
        old = order[place] if len(known) else place
        is_known = known[old] == serials if len(known) else np.zeros(len(serials), bool)
        whole = Block.join(column.blocks)
        carried = Block(whole.values, whole.places[old[is_known]])
        joined = Block.join([carried, self._read(field, serials[~is_known])])
        places = np.empty(len(serials), joined.places.dtype)
        places[is_known], places[~is_known] = np.split(joined.places, [len(carried.places)])
        return Block(joined.values, places)

    def _read(self, field: str, serials: NDArray[np.int64]) -> Block:
        values: list[Value] = []
        for first in range(0, len(serials), _CHUNK):
            part = serials[first : first + _CHUNK].tolist()
            texts = self._record.payloads(part)
            # Parse all of them in one call: much of the time is spent per call.
            payloads = dict(zip(texts, json.loads(f"[{','.join(texts.values())}]"), strict=True))
            found: list[Any] = [payloads.get(serial) for serial in part]
            for name in field.split("."):
                found = [
                    value.get(name, Other.MISSING) if isinstance(value, dict) else Other.MISSING
                    for value in found
                ]
            values += map(as_value, found)
        return Block.of(values)
