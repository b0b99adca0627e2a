"""Reading fields of payloads into columns, so that a filter parses no payload twice.

The payload of a serial number never changes, so a new segment takes over the values of the old one,
and only payloads written since then are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.callbacks import Checkpoint, holding
from index.filters.blocks import Block, Growing, GrowingBlock, GrowingLists
from index.filters.cache import ColumnCache
from index.filters.column import Column
from index.filters.fields import Field
from index.filters.values import Other
from index.memory.view import View
from index.storage.record import Record

# Payloads per read, of up to 64 KiB each.
_CHUNK = 250
# A query need not wait for its turn to read no more payloads than this, and to carry over no more
# values than that: both take some tens of milliseconds.
_FEW_PAYLOADS = 1000
_FEW_VALUES = 1 << 20


class NoRoom(Exception):
    """The columns of a filter need more memory than all columns may occupy."""


class Columns:
    """The columns of one collection, for the fields that filters use."""

    def __init__(self, record: Record, cache: ColumnCache) -> None:
        self._record = record
        self._cache = cache
        cache.open(record.key)
        # Held while a few payloads are read.
        self._updating = Lock()

    def close(self) -> None:
        """Drop all columns, and keep no others from now on."""
        self._cache.close(self._record.key)

    def are_ready(self, fields: Iterable[Field], view: View) -> bool:
        """Return whether `find` has little to do, or nothing."""
        n_stale = 0
        for column in self._kept(fields).values():
            if column is None or column.n_unread(view) > _FEW_PAYLOADS:
                return False
            n_stale += not column.is_of(view)
        return n_stale * view.n_rows <= _FEW_VALUES

    def find(
        self, fields: Iterable[Field], view: View, checkpoint: Checkpoint
    ) -> Mapping[Field, Column]:
        """Return columns that cover a view, and read what they lack.

        If `checkpoint` raises, what has been read is kept, so that the next call goes on from
        there.

        Raises
        ------
        NoRoom
        """
        kept = self._kept(fields)
        found = {
            field: column
            for field, column in kept.items()
            if column is not None and column.covers(view)
        }
        if len(found) == len(kept):
            return found
        lock = self._updating if self.are_ready(kept, view) else self._cache.reading
        with holding(lock, checkpoint):
            # Another thread may have read the same fields.
            return self._complete(self._kept(kept), view, checkpoint)

    def read_once(
        self, fields: Iterable[Field], view: View, rows: NDArray[np.int64], checkpoint: Checkpoint
    ) -> Iterator[tuple[NDArray[np.int64], Mapping[Field, Block]]]:
        """Yield rows of a view and the values of fields, some rows at a time; keep nothing.

        To read many rows, hold `reading`.
        """
        for start, payloads in self._payloads(view.serials(rows)):
            checkpoint()
            blocks = {}
            for field in fields:
                growing = _growing(field)
                growing.add(_values(field, payloads))
                blocks[field] = growing.finish()
            yield rows[start : start + len(payloads)], blocks

    def reading(self, checkpoint: Checkpoint) -> AbstractContextManager[None]:
        """Let nobody else read many payloads during the block."""
        return holding(self._cache.reading, checkpoint)

    def _kept(self, fields: Iterable[Field]) -> dict[Field, Column | None]:
        return {field: self._cache.get(self._record.key, field) for field in fields}

    def _complete(
        self, kept: Mapping[Field, Column | None], view: View, checkpoint: Checkpoint
    ) -> Mapping[Field, Column]:
        """Return columns that cover a view, made from those that are kept."""
        columns: dict[Field, Column] = {}
        for field, column in kept.items():
            usable = column is not None and (column.is_of(view) or not column.is_partial)
            columns[field] = column if column is not None and usable else Column.of(view, [])
        stale = {field: column for field, column in columns.items() if not column.is_of(view)}
        behind = {
            field: column
            for field, column in columns.items()
            if field not in stale and not column.covers(view)
        }
        room = self._cache.max_bytes - sum(column.nbytes for column in columns.values())
        new = self._carried_over(stale, view, room, checkpoint) if stale else {}
        self._keep(new)
        if behind:
            new |= self._extended(behind, view, room, checkpoint)
            self._keep(new)
        return columns | new

    def _keep(self, columns: Mapping[Field, Column]) -> None:
        for field, column in columns.items():
            self._cache.put(self._record.key, field, column)

    def _extended(
        self, columns: Mapping[Field, Column], view: View, room: int, checkpoint: Checkpoint
    ) -> dict[Field, Column]:
        """Return columns of a view with the rows that they lack, read in one pass for all."""
        growing = {field: _growing(field) for field in columns}
        first = min(map(len, columns.values()))
        surplus = {field: len(column) - first for field, column in columns.items()}

        def extended() -> dict[Field, Column]:
            return {
                field: Column.of(view, [*column.blocks, growing[field].finish()])
                for field, column in columns.items()
            }

        for start, payloads in self._payloads(view.serials(np.arange(first, view.n_rows))):
            for field, block in growing.items():
                block.add(_values(field, payloads[max(0, surplus[field] - start) :]))
            _check_room(growing, room)
            try:
                checkpoint()
            except BaseException:
                self._keep(extended())
                raise
        return extended()

    def _carried_over(
        self, columns: Mapping[Field, Column], view: View, room: int, checkpoint: Checkpoint
    ) -> dict[Field, Column]:
        """Return columns of a view, made from columns of another segment.

        What those lack is read in one pass for all of them.
        """
        serials = view.serials()
        # Most columns have the same rows, so that the places of the serial numbers are the same.
        places: dict[tuple[int, ...], NDArray[np.int64]] = {}
        is_known = np.ones(len(serials), bool)
        for column in columns.values():
            if column.rows_key not in places:
                places[column.rows_key] = _places(column.known_serials(), serials)
                is_known &= places[column.rows_key] >= 0
        unread = np.flatnonzero(~is_known)
        unread = unread[np.argsort(serials[unread])]
        growing = {field: _growing(field) for field in columns}
        new: dict[Field, Column] = {}
        n_read = 0

        def check() -> None:
            try:
                checkpoint()
            except BaseException:
                self._keep(_with_more(columns, serials[unread[:n_read]], growing) | new)
                raise

        for start, payloads in self._payloads(serials[unread]):
            for field, block in growing.items():
                block.add(_values(field, payloads))
            _check_room(growing, room)
            n_read = start + len(payloads)
            check()
        for field, column in columns.items():
            check()
            old = Block.join(column.blocks) if len(column.blocks) > 1 else column.blocks[0]
            old_places = old.places[places[column.rows_key][is_known]]
            both = Block.join([Block(old.values, old_places), growing[field].finish()])
            merged = np.empty(len(serials), both.places.dtype)
            merged[is_known], merged[unread] = np.split(both.places, [len(old_places)])
            new[field] = Column.of(view, [Block(both.values, merged)])
        return new

    def _payloads(self, serials: NDArray[np.int64]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Yield payloads, some at a time, each time with the place of the first of them."""
        for start in range(0, len(serials), _CHUNK):
            part = serials[start : start + _CHUNK].tolist()
            texts = self._record.payloads(part)
            # Parse all of them in one call: much of the time is spent per call.
            parsed = dict(zip(texts, json.loads(f"[{','.join(texts.values())}]"), strict=True))
            payloads = map(parsed.get, part)
            yield start, [payload if isinstance(payload, dict) else {} for payload in payloads]


def _growing(field: Field) -> Growing:
    return GrowingLists() if field.is_list else GrowingBlock()


def _values(field: Field, payloads: list[dict[str, Any]]) -> list[Any]:
    """Return the value of a field in each payload."""
    name, *inner = field.names
    found: list[Any] = [payload.get(name, Other.MISSING) for payload in payloads]
    for name in inner:
        found = [
            value.get(name, Other.MISSING) if isinstance(value, dict) else Other.MISSING
            for value in found
        ]
    return found


def _places(known: NDArray[np.int64], serials: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each serial number among the known ones, -1 for one that is not there."""
    if not len(known):
        return np.full(len(serials), -1, np.int64)
    order = np.argsort(known)
    place = np.searchsorted(known, serials, sorter=order)
    place[place == len(known)] = 0
    place = order[place]
    return np.where(known[place] == serials, place, -1)


def _with_more(
    columns: Mapping[Field, Column],
    serials: NDArray[np.int64],
    growing: Mapping[Field, Growing],
) -> dict[Field, Column]:
    """Return columns that also have rows with these serial numbers."""
    # Columns with the same rows before have the same rows afterwards.
    tails = {column.rows_key: column.longer_tail(serials) for column in columns.values()}
    return {
        field: column.with_more(tails[column.rows_key], growing[field].finish())
        for field, column in columns.items()
    }


def _check_room(growing: Mapping[Field, Growing], room: int) -> None:
    if sum(block.nbytes for block in growing.values()) > room:
        raise NoRoom
