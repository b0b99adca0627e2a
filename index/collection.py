"""A collection: items with codes, labels and payloads, on disk and searchable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.database import Database
from index.errors import InvalidItems, NotFound
from index.flat import Codes, FlatIndex

MAX_ID = 256
MAX_PAYLOAD = 1 << 16
# SQLite's own limit on parameters has been far higher for years.
_SQL_PARAMETERS = 500

Payload = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """An item as it is stored: `code` is packed, `label` and `payload` may be None."""

    id: str
    code: bytes
    label: int | None
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An item that a search found, at a Hamming distance."""

    id: str
    distance: int
    label: int | None
    payload: dict[str, Any] | None


class Collection:
    """Items under string ids, found by the Hamming distance of their codes.

    Safe for threads: a search sees a batch of writes whole or not at all. A write that has
    returned is on disk. Made by `Store`.

    Attributes
    ----------
    name : str
    n_bits : int
        Code length.
    encoder, fingerprint : str
        What the codes were made by, in the words of whoever made the collection.
    """

    def __init__(
        self, database: Database, key: int, name: str, n_bits: int, encoder: str, fingerprint: str
    ) -> None:
        self.name = name
        self.n_bits = n_bits
        self.encoder = encoder
        self.fingerprint = fingerprint
        self._database = database
        self._key = key
        self._lock = RLock()
        self._dropped = False
        self._index = FlatIndex(n_bits)
        self._load()

    def __len__(self) -> int:
        return len(self._index)

    def upsert(
        self,
        ids: Sequence[str],
        codes: Codes,
        labels: Sequence[int | None] | NDArray[np.int64] | None = None,
        payloads: Sequence[Payload | None] | None = None,
    ) -> None:
        """Insert items, or replace those whose ids are there, all of them or none.

        Parameters
        ----------
        ids : (n,) str
            1 to 256 characters each; none may stand twice.
        codes : (n, ceil(n_bits / 8)) uint8
            Packed, padding bits clear.
        labels : (n,) int, optional
            None or -1 for an item without one. Replaced along with the rest of the item.
        payloads : (n,) mappings that JSON can hold, optional
            At most 64 KiB each.

        Raises
        ------
        InvalidItems
        NotFound
            The collection has been dropped.
        """
        check_ids(ids)
        self._check_codes(codes, len(ids))
        rows = [
            (self._key, item_id, code.tobytes(), label, payload)
            for item_id, code, label, payload in zip(
                ids, codes, _labels(labels, len(ids)), _payloads(payloads, len(ids)), strict=True
            )
        ]
        with self._lock:
            self._check_there()
            with self._database.transaction() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO items (collection, id, code, label, payload) "
                    "VALUES (?, ?, ?, ?, ?)",
                    rows,
                )
            self._index.upsert(ids, codes)

    def delete(self, ids: Sequence[str]) -> int:
        """Remove the items of these ids; how many were there. Unknown ids are no error."""
        with self._lock:
            self._check_there()
            there = [item_id for item_id in dict.fromkeys(ids) if item_id in self._index]
            with self._database.transaction() as connection:
                connection.executemany(
                    "DELETE FROM items WHERE collection = ? AND id = ?",
                    [(self._key, item_id) for item_id in there],
                )
            self._index.delete(there)
        return len(there)

    def get(self, item_id: str) -> Item:
        """One item; NotFound where there is none."""
        with self._lock:
            self._check_there()
            self._check_known([item_id])
            ((_, code, label, payload),) = self._rows([item_id])
        return Item(item_id, code, label, json.loads(payload) if payload else None)

    def codes(self, ids: Sequence[str]) -> Codes:
        """The codes of items, (len(ids), size); NotFound where there is no such item."""
        with self._lock:
            self._check_there()
            self._check_known(ids)
            return self._index.codes(ids)

    def search(
        self, queries: Codes, k: int, radius: int | None = None, *, payloads: bool = True
    ) -> list[list[Neighbour]]:
        """The k nearest items of each query code, exact, ties broken by id.

        Parameters
        ----------
        queries : (q, ceil(n_bits / 8)) uint8
        k : int
            At least 1. Fewer are returned where there are fewer.
        radius : int, optional
            Nothing farther than this is returned.
        payloads : bool
            Whether to read the payloads.

        Raises
        ------
        InvalidItems
        NotFound
            The collection has been dropped.
        """
        self._check_codes(queries, len(queries))
        if k < 1:
            raise InvalidItems(f"k must be at least 1, got {k}")
        if radius is not None and radius < 0:
            raise InvalidItems(f"radius must be at least 0, got {radius}")
        with self._lock:
            self._check_there()
            found = self._index.search(queries, k, radius)
            ids = {item_id for near in found for _, item_id in near}
            read = {row[0]: row[2:] for row in self._rows(ids, payload=payloads)}
        return [
            [
                Neighbour(item_id, distance, label, json.loads(payload) if payload else None)
                for distance, item_id in near
                for label, payload in (read[item_id],)
            ]
            for near in found
        ]

    def drop(self) -> None:
        """Remove the record; every further call raises NotFound. `Store.drop` forgets the name."""
        with self._lock:
            self._check_there()
            with self._database.transaction() as connection:
                connection.execute("DELETE FROM collections WHERE key = ?", (self._key,))
            self._dropped = True

    def _load(self) -> None:
        rows = self._database.read("SELECT id, code FROM items WHERE collection = ?", (self._key,))
        if rows:
            ids = [item_id for item_id, _ in rows]
            packed = np.frombuffer(b"".join(code for _, code in rows), np.uint8)
            self._index.upsert(ids, packed.reshape(len(ids), -1))

    def _rows(self, ids: Iterable[str], *, payload: bool = True) -> list[tuple[Any, ...]]:
        """(id, code, label, payload) of items, in no order."""
        ids = list(ids)
        columns = f"id, code, label, {'payload' if payload else 'NULL'}"
        rows = []
        for start in range(0, len(ids), _SQL_PARAMETERS):
            part = ids[start : start + _SQL_PARAMETERS]
            marks = ", ".join("?" * len(part))
            rows += self._database.read(
                f"SELECT {columns} FROM items WHERE collection = ? AND id IN ({marks})",  # noqa: S608
                (self._key, *part),
            )
        return rows

    def _check_there(self) -> None:
        if self._dropped:
            raise NotFound(f"there is no collection {self.name!r}")

    def _check_known(self, ids: Iterable[str]) -> None:
        for item_id in ids:
            if item_id not in self._index:
                raise NotFound(f"there is no item {item_id!r} in collection {self.name!r}")

    def _check_codes(self, codes: Codes, n: int) -> None:
        expected = (n, self._index.size)
        if codes.dtype != np.uint8 or codes.shape != expected:
            raise InvalidItems(
                f"expected {self.n_bits}-bit codes as uint8 of shape {expected}, "
                f"got {codes.dtype} of shape {codes.shape}"
            )
        padding = -self.n_bits % 8
        if padding and (codes[:, -1] & ((1 << padding) - 1)).any():
            raise InvalidItems(f"codes have bits set beyond the {self.n_bits} that they have")


def check_ids(ids: Sequence[str]) -> None:
    """Raise InvalidItems for an id that is no string of 1 to 256 characters or stands twice."""
    for place, item_id in enumerate(ids):
        if not isinstance(item_id, str) or not 1 <= len(item_id) <= MAX_ID:
            raise InvalidItems(
                f"an id is a string of 1 to {MAX_ID} characters; that of item {place} is "
                f"{item_id!r:.50}"
            )
        if not item_id.isprintable():
            raise InvalidItems(
                f"an id has printable characters only; item {place}: {item_id!a:.50}"
            )
        if not {".", ".."}.isdisjoint(item_id.split("/")):
            raise InvalidItems(
                f"an id has no part '.' or '..', which clients take out of a path; item {place}: "
                f"{item_id!r:.50}"
            )
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise InvalidItems(f"every id may stand once in a batch; {twice!r} stands twice")


def _labels(
    labels: Sequence[int | None] | NDArray[np.int64] | None, n: int
) -> Sequence[int | None]:
    if labels is None:
        return [None] * n
    if len(labels) != n:
        raise InvalidItems(f"expected {n} labels, one an item, got {len(labels)}")
    plain = labels.tolist() if isinstance(labels, np.ndarray) else labels
    for label in plain:
        if label is not None and not -1 <= label < 2**63:
            raise InvalidItems(f"a label is from -1 (none) to 2**63 - 1, got {label}")
    return [None if label == -1 else label for label in plain]


def _payloads(payloads: Sequence[Payload | None] | None, n: int) -> Sequence[str | None]:
    if payloads is None:
        return [None] * n
    if len(payloads) != n:
        raise InvalidItems(f"expected {n} payloads, one an item, got {len(payloads)}")
    return [None if payload is None else _dump(payload, i) for i, payload in enumerate(payloads)]


def _dump(payload: Payload, place: int) -> str:
    try:
        text = json.dumps(payload, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidItems(f"the payload of item {place} is not JSON: {error}") from None
    if len(text) > MAX_PAYLOAD:
        raise InvalidItems(
            f"a payload has at most {MAX_PAYLOAD} bytes; that of item {place} has {len(text)}"
        )
    return text
