"""The items of one collection on disk: parts with checksums, payloads and descriptors."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bitcodes import word_count
from index.callbacks import Count
from index.memory.batch import Batch
from index.memory.factors import row_size
from index.storage import part_format
from index.storage.catalog import DescriptorType
from index.storage.database import Database

# Most items of a part.
PART = 1 << 16
# This many consecutive parts are joined if each of them has fewer items than a limit. With three
# limits, an item is rewritten at most three times, and there are never many parts to read.
_FAN = 32
_SMALL_PARTS = (_FAN, _FAN**2, PART // _FAN)
# Dead items are deleted from the disk when there are more of them than this number and than one in
# `_DEAD_SHARE` items.
_MAX_DEAD = 4096
_DEAD_SHARE = 4
# Serial numbers per query. SQLite allows many more parameters.
_MAX_PARAMETERS = 500


class Record:
    """The record of one collection.

    Every item has a serial number, in the order of insertion. An item that is replaced or deleted
    is dead: its serial number is recorded, and it is removed from its part later.

    Methods that take a connection must be called inside `Database.write`.
    """

    def __init__(
        self,
        database: Database,
        key: int,
        n_bits: int,
        descriptor_type: DescriptorType | None = None,
        *,
        is_estimated: bool = False,
    ) -> None:
        self.database = database
        self.key = key
        self._size = row_size(n_bits, is_estimated)
        self._descriptors = "descriptors" if descriptor_type == "float16" else "vectors"
        self._kept = np.dtype(descriptor_type or "float32").newbyteorder("<")
        self._n_words = word_count(8 * self._size)
        self.next_serial = 0
        # The same for what readers see.
        self.published_serial = 0
        # First serial and number of items of each part.
        self._parts: list[tuple[int, int]] = []
        # Serials of dead items, with the version of the rows in memory from which on no reader
        # sees them.
        self._dead: list[tuple[int, NDArray[np.int64]]] = []
        self._writes = 0
        self._has_payloads = False
        self._staged_parts: list[tuple[int, int]] = []
        self._staged_dead: list[NDArray[np.int64]] = []

    def load(self) -> Batch:
        """Return all live items as columns; raise Damaged if a checksum is wrong."""
        read = self.database.read
        counters = read("SELECT items, next_serial FROM collections WHERE key = ?", (self.key,))
        ((items, self.next_serial),) = counters
        self.published_serial = self.next_serial
        self._has_payloads = bool(
            read("SELECT 1 FROM payloads WHERE collection = ? LIMIT 1", (self.key,))
        )
        batches = []
        with self.database.reading() as connection:
            rows = connection.execute(
                "SELECT first, n, data, checksum FROM parts WHERE collection = ? ORDER BY first",
                (self.key,),
            )
            for first, n, data, checksum in rows:
                batches.append(self._decode(first, n, data, checksum))
                self._parts.append((first, n))
        for data, checksum in read(
            "SELECT serials, checksum FROM deaths WHERE collection = ?", (self.key,)
        ):
            if crc32(data) != checksum:
                raise self.database.damaged(f"the deleted items of collection {self.key}")
            self._dead.append((-1, np.frombuffer(data, "<i8").astype(np.int64)))
        batch = Batch.join(batches, self._n_words).without(self._dead_serials())
        if len(batch) != items:
            raise self.database.damaged(f"expected {items} items, found {len(batch)}")
        return batch

    def _dead_serials(self) -> NDArray[np.int64]:
        return np.concatenate([np.empty(0, np.int64), *(serials for _, serials in self._dead)])

    def insert(
        self,
        connection: sqlite3.Connection,
        batch: Batch,
        payloads: Sequence[str | None] | None,
        descriptors: NDArray[Any] | None,
        replaced: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Write items, mark those with the serials `replaced` as dead; return the new serials."""
        serials = np.arange(self.next_serial, self.next_serial + len(batch))
        self.next_serial += len(batch)
        numbered, staged = replace(batch, serials=serials), []
        for start in range(0, len(batch), PART):
            part = numbered.between(start, start + PART)
            self._put_part(connection, part)
            staged.append((int(part.serials[0]), len(part)))
        self.put_payloads(connection, serials, payloads)
        if descriptors is not None:
            vectors = map(np.ndarray.tobytes, descriptors.astype(self._kept))
            connection.executemany(
                f"INSERT INTO {self._descriptors} VALUES (?, ?, ?, ?)",  # noqa: S608
                (
                    (self.key, serial, data, crc32(data))
                    for serial, data in zip(serials.tolist(), vectors, strict=True)
                ),
            )
        self._put_dead(connection, replaced)
        self._count(connection, len(batch) - len(replaced))
        self._staged_parts += staged
        self._staged_dead += [replaced] if len(replaced) else []
        return serials

    def copy_descriptors(
        self, connection: sqlite3.Connection, old: NDArray[np.int64], new: NDArray[np.int64]
    ) -> None:
        """Give items with the serials `new` the descriptors of those with the serials `old`."""
        connection.executemany(
            f"INSERT INTO {self._descriptors} "  # noqa: S608
            f"SELECT collection, ?, vector, checksum FROM {self._descriptors} "
            "WHERE collection = ? AND serial = ?",
            ((to, self.key, of) for to, of in zip(new.tolist(), old.tolist(), strict=True)),
        )

    def descriptor_bytes(self, connection: sqlite3.Connection) -> int:
        """Return the size of one descriptor; 0 if there are none."""
        found = connection.execute(
            f"SELECT length(vector) FROM {self._descriptors} "  # noqa: S608
            "WHERE collection = ? LIMIT 1",
            (self.key,),
        ).fetchone()
        return int(found[0]) if found else 0

    def put_payloads(
        self,
        connection: sqlite3.Connection,
        serials: NDArray[np.int64],
        payloads: Sequence[str | None] | None,
    ) -> None:
        """Write payloads as JSON of items with these serials, of which None have none."""
        if payloads is not None:
            # Set before any reader sees these items, and never reset.
            self._has_payloads |= any(text is not None for text in payloads)
            connection.executemany(
                "INSERT INTO payloads VALUES (?, ?, ?, ?)",
                (
                    (self.key, serial, text, crc32(text.encode()))
                    for serial, text in zip(serials.tolist(), payloads, strict=True)
                    if text is not None
                ),
            )

    def delete(self, connection: sqlite3.Connection, serials: NDArray[np.int64]) -> None:
        """Mark items as dead."""
        self._put_dead(connection, serials)
        self._count(connection, -len(serials))
        self._staged_dead += [serials] if len(serials) else []

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Discard what the block staged if it raises: only its own writes are rolled back."""
        n_parts, n_dead = len(self._staged_parts), len(self._staged_dead)
        try:
            yield
        except BaseException:
            del self._staged_parts[n_parts:], self._staged_dead[n_dead:]
            raise

    def _put_dead(self, connection: sqlite3.Connection, serials: NDArray[np.int64]) -> None:
        if not len(serials):
            return
        data = serials.astype("<i8").tobytes()
        connection.execute(
            "INSERT INTO deaths (collection, serials, checksum) VALUES (?, ?, ?)",
            (self.key, data, crc32(data)),
        )

    def _count(self, connection: sqlite3.Connection, change: int) -> None:
        connection.execute(
            "UPDATE collections SET items = items + ?, next_serial = ? WHERE key = ?",
            (change, self.next_serial, self.key),
        )

    def publish(self, version: int) -> None:
        """Take over what is staged: it is on disk, and readers see it from this version on."""
        self._parts += self._staged_parts
        self._dead += [(version, serials) for serials in self._staged_dead]
        self._writes += 1
        self.published_serial = self.next_serial
        self.undo()

    @property
    def due(self) -> bool:
        """Whether enough was written to call `next_rewrite` again."""
        return self._writes >= _FAN

    def undo(self) -> None:
        """Discard what is staged: it is not on disk."""
        self._staged_parts, self._staged_dead = [], []

    def payloads(self, serials: Iterable[int]) -> dict[int, str]:
        """Return payloads as JSON by serial number, without those of items that have none."""
        return {serial: text.decode() for serial, text in self.payload_bytes(serials).items()}

    def payload_bytes(
        self,
        serials: Iterable[int],
        count: Count = lambda n: None,
        connection: sqlite3.Connection | None = None,
    ) -> dict[int, bytes]:
        """Return payloads as `payloads` does, but in UTF-8.

        `count` is called with the number of bytes after each few payloads. It may raise. With the
        `connection` of a write, what its transaction has written so far counts.
        """
        if not self._has_payloads:
            return {}
        return {
            serial: text
            for serial, text, checksum in self._select(
                "payloads", "CAST(payload AS BLOB)", serials, count, connection
            )
            if self._is_sound(crc32(text) == checksum, f"the payload of item {serial}")
        }

    def descriptors(self, serials: Sequence[int]) -> NDArray[Any]:
        """Return the descriptors of items in the order of `serials`; KeyError if one is missing."""
        if not serials:
            return np.empty((0, self.dimension() or 0), self._kept.newbyteorder("="))
        vectors = {
            serial: data
            for serial, data, checksum in self._select(self._descriptors, "vector", serials)
            if self._is_sound(crc32(data) == checksum, f"the descriptor of item {serial}")
        }
        joined = np.frombuffer(b"".join(vectors[serial] for serial in serials), self._kept)
        return joined.reshape(len(serials), -1).astype(self._kept.newbyteorder("="))

    def dimension(self) -> int | None:
        """Return the dimension of the descriptors; None if there are none."""
        rows = self.database.read(
            f"SELECT length(vector) FROM {self._descriptors} "  # noqa: S608
            "WHERE collection = ? LIMIT 1",
            (self.key,),
        )
        return rows[0][0] // self._kept.itemsize if rows else None

    def _select(
        self,
        table: str,
        column: str,
        serials: Iterable[int],
        count: Count = lambda n: None,
        connection: sqlite3.Connection | None = None,
    ) -> list[tuple[Any, ...]]:
        """Return serial, column and checksum; `count` gets the bytes of each few columns."""
        wanted = sorted(serials)
        rows: list[tuple[Any, ...]] = []
        with nullcontext(connection) if connection else self.database.reading() as reader:
            for start in range(0, len(wanted), _MAX_PARAMETERS):
                part = wanted[start : start + _MAX_PARAMETERS]
                found = reader.execute(
                    f"SELECT serial, {column}, checksum FROM {table} "  # noqa: S608
                    f"WHERE collection = ? AND serial IN ({', '.join('?' * len(part))})",
                    (self.key, *part),
                ).fetchall()
                rows += found
                count(sum(len(value) for _, value, _ in found))
        return rows

    def _is_sound(self, is_sound: bool, what: str) -> bool:
        if not is_sound:
            raise self.database.damaged(what)
        return True

    def _put_part(self, connection: sqlite3.Connection, part: Batch) -> None:
        first, (data, checksum) = int(part.serials[0]), part_format.encode(part, self._size)
        connection.execute(
            "INSERT INTO parts VALUES (?, ?, ?, ?, ?)", (self.key, first, len(part), data, checksum)
        )

    def _decode(self, first: int, n: int, data: bytes, checksum: int) -> Batch:
        part = part_format.decode(first, n, data, checksum, self._size)
        if part is None:
            raise self.database.damaged(f"part {first} of collection {self.key}")
        return part

    def next_rewrite(self, oldest: int) -> tuple[int, int] | None:
        """Return which parts to rewrite next, as a range of places; None for none.

        `oldest` is the version of the oldest view in use, which may still show items that died
        since.
        """
        self._writes = 0
        for limit in _SMALL_PARTS:
            run = 0
            for place in range(len(self._parts) - 1, -1, -1):
                n = self._parts[place][1]
                run = run + 1 if n < limit else 0
                if run == _FAN:
                    return place, place + _FAN
        invisible = [serials for version, serials in self._dead if version <= oldest]
        items = sum(n for _, n in self._parts)
        if sum(map(len, invisible)) > max(_MAX_DEAD, items // _DEAD_SHARE):
            firsts = np.array([first for first, _ in self._parts])
            places = np.searchsorted(firsts, np.concatenate(invisible), side="right") - 1
            most_dead = int(np.bincount(places).argmax())
            return most_dead, most_dead + 1
        # Only join the lists of dead items.
        return (0, 0) if len(invisible) > _FAN**2 else None

    def rewrite(
        self, connection: sqlite3.Connection, low: int, high: int, oldest: int
    ) -> Callable[[], None]:
        """Join the parts from place `low` to `high` and delete their dead items.

        Dead items that a view of version `oldest` may still show stay. Returns what to call when
        all of it is on disk.
        """
        whole = self._read_parts(connection, low, high)
        removable = [serials for version, serials in self._dead if version <= oldest]
        invisible = np.concatenate([np.empty(0, np.int64), *removable])
        deleted = np.intersect1d(whole.serials, invisible)
        kept = whole.without(deleted)
        connection.executemany(
            "DELETE FROM parts WHERE collection = ? AND first = ?",
            [(self.key, first) for first, _ in self._parts[low:high]],
        )
        if len(kept):
            self._put_part(connection, kept)
        new = [(int(kept.serials[0]), len(kept))] if len(kept) else []
        for table in ("payloads", self._descriptors):
            connection.executemany(
                f"DELETE FROM {table} WHERE collection = ? AND serial = ?",  # noqa: S608
                ((self.key, serial) for serial in deleted.tolist()),
            )
        visible = [(version, serials) for version, serials in self._dead if version > oldest]
        rest = np.setdiff1d(invisible, deleted)
        dead = [(-1, rest), *visible] if len(rest) else visible
        connection.execute("DELETE FROM deaths WHERE collection = ?", (self.key,))
        for _, serials in dead:
            self._put_dead(connection, serials)

        def apply() -> None:
            self._parts[low:high] = new
            self._dead = dead

        return apply

    def _read_parts(self, connection: sqlite3.Connection, low: int, high: int) -> Batch:
        sql = "SELECT first, n, data, checksum FROM parts WHERE collection = ? AND first = ?"
        batches = [
            self._decode(*row)
            for first, _ in self._parts[low:high]
            for row in connection.execute(sql, (self.key, first)).fetchall()
        ]
        return Batch.join(batches, self._n_words)
