"""Items that were read from Milvus, by their places; what is missing is read when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes
from index.callbacks import Count
from index.milvus.search import Changed
from index.milvus.server.columns import (
    CODE,
    DESCRIPTOR,
    PAYLOAD,
    SERIAL,
    Columns,
    as_descriptors,
)
from index.milvus.server.physical import among
from index.storage.catalog import DescriptorType

FEW = 512
"""Items whose payloads or descriptors are read at once: either has up to 64 KiB."""

Rows = NDArray[np.int64]
Read = Callable[[str, Sequence[str]], Columns]
"""Returns fields of the items that meet an expression."""


class Fetched:
    """Items by their places: an `Items` of `index.search.items`.

    An item that has been written since it was read is another one: it raises Changed.
    """

    def __init__(self, columns: Columns, kept: DescriptorType | None, read: Read) -> None:
        self._columns, self._kept, self._read = columns, kept, read

    def names(self, rows: Rows, /) -> list[str]:
        """Return the ids."""
        return [self._columns.ids[row] for row in rows.tolist()]

    def labels(self, rows: Rows, /) -> NDArray[np.int64]:
        """Return the labels, -1 for none."""
        return self._columns.labels[rows]

    def codes(self, rows: Rows, /) -> Codes:
        """Return the packed codes."""
        if self._has(self._columns.codes):
            return self._columns.codes[rows]
        parts = [columns.codes[at] for columns, at in self._parts(rows, CODE)]
        return _stacked(parts, self._columns.codes)

    def _has(self, column: Sequence[Any] | NDArray[Any]) -> bool:
        return len(column) == len(self._columns.ids)

    def payloads(self, rows: Rows, count: Count, /) -> Iterable[bytes | None]:
        """Return the payloads as JSON in UTF-8, None for none. `count` is called with their bytes.

        An item whose row occurs again counts again.
        """
        found: list[bytes | None] = []
        if self._has(self._columns.payloads):
            found = [self._columns.payloads[row] for row in rows.tolist()]
            count(sum(len(each) for each in found if each is not None))
            return found
        for columns, at in self._parts(rows, PAYLOAD):
            part = [columns.payloads[place] for place in at.tolist()]
            count(sum(len(each) for each in part if each is not None))
            found += part
        return found

    def descriptors(self, rows: Rows, /) -> NDArray[Any]:
        """Return the descriptors that are kept."""
        kept = self._kept or "float32"
        parts = []
        for columns, at in self._parts(rows, DESCRIPTOR):
            texts = [columns.descriptors[place] for place in at.tolist()]
            parts.append(as_descriptors(texts, kept))
        return _stacked(parts, np.empty((0, 1), kept))

    def _parts(self, rows: Rows, field: str) -> Iterable[tuple[Columns, Rows]]:
        """Yield a field of some items at a time, and their places in what was read."""
        serials = self._columns.serials
        for first in range(0, len(rows), FEW):
            part = rows[first : first + FEW]
            names = self.names(part)
            columns = self._read(among(list(dict.fromkeys(names))), [SERIAL, field])
            places = {name: place for place, name in enumerate(columns.ids)}
            at = np.array([places.get(name, -1) for name in names], np.int64)
            if (at < 0).any() or (columns.serials[at] != serials[part]).any():
                raise Changed
            yield columns, at


def _stacked(parts: list[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else empty
