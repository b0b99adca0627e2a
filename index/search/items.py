"""Items of one moment by their rows, from which neighbours are reranked and answers are made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes
from index.callbacks import Count
from index.memory.view import View
from index.storage.record import Record

Rows = NDArray[np.int64]


class Items(Protocol):
    """Items by their rows, which each backend numbers in its own way."""

    def names(self, rows: Rows, /) -> list[str]:
        """Return the ids."""

    def labels(self, rows: Rows, /) -> NDArray[np.int64]:
        """Return the labels, -1 for none."""

    def codes(self, rows: Rows, /) -> Codes:
        """Return the packed codes."""

    def payloads(self, rows: Rows, count: Count, /) -> Iterable[bytes | None]:
        """Return the payloads as JSON in UTF-8, None for none. `count` is called with their bytes.

        An item whose row occurs again counts again.
        """

    def descriptors(self, rows: Rows, /) -> NDArray[Any]:
        """Return the descriptors that are kept."""


class Stored:
    """The items of a view, with payloads and descriptors from the record."""

    def __init__(self, view: View, record: Record) -> None:
        self._view, self._record = view, record

    def names(self, rows: Rows, /) -> list[str]:
        """Return the ids."""
        return self._view.names(rows)

    def labels(self, rows: Rows, /) -> NDArray[np.int64]:
        """Return the labels, -1 for none."""
        return self._view.labels(rows)

    def codes(self, rows: Rows, /) -> Codes:
        """Return the packed codes."""
        return self._view.codes(rows)

    def payloads(self, rows: Rows, count: Count, /) -> Iterable[bytes | None]:
        """Return the payloads as `Items.payloads` says. Each is read once."""
        serials = self._view.serials(rows).tolist()
        texts = self._record.payload_bytes(set(serials), count)
        if len(texts) < len(serials):
            whole = sum(len(texts[serial]) for serial in serials if serial in texts)
            count(whole - sum(map(len, texts.values())))
        return (texts.get(serial) for serial in serials)

    def descriptors(self, rows: Rows, /) -> NDArray[Any]:
        """Return the descriptors that are kept."""
        return self._record.descriptors(self._view.serials(rows).tolist())
