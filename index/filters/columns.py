"""Fields of payloads as columns, so that a filter reads no payload twice.

A column has the value of one field for every row of a view, as the place of that value among the
distinct ones in order; a condition is then looked up among those, and never item by item. The
payload behind a serial number never changes: what is known of one segment is carried over to the
next, and only what has been written since is read.
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
from index.memory.view import View
from index.storage.record import Record

Mask = NDArray[np.bool_]
# Fields whose columns are kept for the next filter: those that were used last.
_FIELDS = 8
# Blocks of what came after the segment: so many are joined to one.
_BLOCKS = 32
_CHUNK = 1000


class Other(Enum):
    """What a field may hold beside a number or a string; lists and objects are as if missing."""

    MISSING = 0
    NULL = 1
    TRUE = 2
    FALSE = 3


Value = float | str | Other


def as_value(value: Any) -> Value:
    """A value from JSON; 1, 1.0 and true, which Python holds to be equal, told apart."""
    if value is None:
        return Other.NULL
    if isinstance(value, bool):
        return Other.TRUE if value else Other.FALSE
    return value if isinstance(value, int | float | str) else Other.MISSING


@dataclass(frozen=True)
class Test:
    """What a filter asks of a field: to be one of `values`, or where there are bounds, in them."""

    values: Sequence[Any]
    bounds: Mapping[str, Any]


class Values:
    """Distinct values: those of `Other`, then numbers, then strings, each ascending."""

    def __init__(self, values: Iterable[Value]) -> None:
        distinct = set(values)
        self._numbers = sorted(v for v in distinct if isinstance(v, int | float))
        self._texts = sorted(v for v in distinct if isinstance(v, str))

    def in_order(self) -> Iterable[Value]:
        """All of them."""
        return chain(Other, self._numbers, self._texts)

    def meeting(self, test: Test) -> Mask:
        """Which of them meet a condition."""
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
        among, first = self._among(value)
        return slice(first + bisect_left(among, value), first + bisect_right(among, value))

    def _within(self, name: str, bound: float | str) -> slice:
        among, first = self._among(bound)
        place = (bisect_right if name in ("gt", "lte") else bisect_left)(among, bound)
        if name in ("gt", "gte"):
            return slice(first + place, first + len(among))
        return slice(first, first + place)

    def _among(self, value: float | str) -> tuple[Sequence[Any], int]:
        """Those of the same type, and where the first of them stands."""
        if isinstance(value, str):
            return self._texts, len(Other) + len(self._numbers)
        return self._numbers, len(Other)


@dataclass(frozen=True)
class Block:
    """The values of some rows, each as its place among the distinct ones."""

    values: Values
    places: NDArray[np.integer]

    @classmethod
    def of(cls, each: Sequence[Value]) -> Block:
        """A block of a value for each row."""
        values = Values(each)
        at = {value: place for place, value in enumerate(values.in_order())}
        return cls(values, narrow(np.fromiter(map(at.__getitem__, each), np.int64, len(each))))

    @classmethod
    def join(cls, blocks: Sequence[Block]) -> Block:
        """One after the other."""
        used = [np.bincount(block.places).nonzero()[0].tolist() for block in blocks]
        entries = [list(block.values.in_order()) for block in blocks]
        values = Values(
            entry[place] for entry, some in zip(entries, used, strict=True) for place in some
        )
        at = {value: place for place, value in enumerate(values.in_order())}
        moved = []
        for block, entry, some in zip(blocks, entries, used, strict=True):
            to = np.zeros(len(entry), np.int64)
            to[some] = [at[entry[place]] for place in some]
            moved.append(to[block.places])
        return cls(values, narrow(np.concatenate(moved)))


@dataclass(frozen=True)
class Column:
    """One field: a block of the rows of a segment, blocks of those of the tail after it."""

    segment: ref[Segment]
    """Not kept for the column's sake: it has codes and tables that nobody else may need."""
    blocks: list[Block]
    serials: NDArray[np.integer]
    tail: NDArray[np.int64]
    """Serial numbers of the rows of the segment, and of those of the tail that are in it."""

    def covers(self, view: View) -> bool:
        """Whether all rows of a view are in it, in its order."""
        return self.segment() is view.segment and len(self.tail) >= len(view.tail)


class Columns:
    """The columns of the fields of one collection that filters have asked for."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._kept: OrderedDict[str, Column] = OrderedDict()
        self._lock = Lock()
        self._building = Lock()

    def meeting(self, field: str, test: Test, view: View) -> Mask:
        """Which rows of a view have a value in a field, `a.b` for b within a, that meets a test."""
        column = self._kept.get(field)
        if column is None or not column.covers(view):
            with self._building:
                column = self._kept.get(field)
                if column is None or not column.covers(view):
                    column = self._extended(column, field, view)
                    with self._lock:
                        self._kept[field] = column
        with self._lock:
            if field in self._kept:
                self._kept.move_to_end(field)
            if len(self._kept) > _FIELDS:
                self._kept.popitem(last=False)
        parts = [block.values.meeting(test)[block.places] for block in column.blocks]
        return np.concatenate(parts)[: view.n_rows]

    def _extended(self, column: Column | None, field: str, view: View) -> Column:
        if column is None:
            return self._split(self._read(field, view.serials()), view)
        if column.segment() is not view.segment:
            return self._split(self._carried(column, field, view.serials()), view)
        tail = view.tail_serials
        blocks = [*column.blocks, self._read(field, tail[len(column.tail) :])]
        if len(blocks) > _BLOCKS:
            blocks = [blocks[0], Block.join(blocks[1:])]
        return Column(ref(view.segment), blocks, view.segment.serials, tail)

    def _split(self, block: Block, view: View) -> Column:
        n = len(view.segment)
        blocks = [Block(block.values, part) for part in np.split(block.places, [n])]
        return Column(ref(view.segment), blocks, view.segment.serials, view.tail_serials)

    def _carried(self, column: Column, field: str, serials: NDArray[np.int64]) -> Block:
        """Values by serial number, read where the column has none."""
        known = np.concatenate([column.serials.astype(np.int64), column.tail])
        order = np.argsort(known)
        place = np.searchsorted(known, serials, sorter=order)
        place[place == len(known)] = 0
        old = order[place] if len(known) else place
        there = known[old] == serials if len(known) else np.zeros(len(serials), bool)
        whole = Block.join(column.blocks)
        carried = Block(whole.values, whole.places[old[there]])
        joined = Block.join([carried, self._read(field, serials[~there])])
        places = np.empty(len(serials), joined.places.dtype)
        places[there], places[~there] = np.split(joined.places, [len(carried.places)])
        return Block(joined.values, places)

    def _read(self, field: str, serials: NDArray[np.int64]) -> Block:
        values: list[Value] = []
        for first in range(0, len(serials), _CHUNK):
            part = serials[first : first + _CHUNK].tolist()
            texts = self._record.payloads(part)
            # Read in one go: much of the time is in the calls.
            payloads = dict(zip(texts, json.loads(f"[{','.join(texts.values())}]"), strict=True))
            found: list[Any] = [payloads.get(serial) for serial in part]
            for name in field.split("."):
                found = [
                    one.get(name, Other.MISSING) if isinstance(one, dict) else Other.MISSING
                    for one in found
                ]
            values += map(as_value, found)
        return Block.of(values)
