"""What one collection has on disk: its items in parts, written whole and checked when read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bitcodes import code_size, word_count
from index.memory.batch import Batch
from index.storage import part_format
from index.storage.database import Database

PART = 1 << 16
# So many small parts that follow one another are joined, at three sizes of small: an item is
# rewritten three times at most, and there are never many parts to read.
_FAN = 32
_LEVELS = (_FAN, _FAN**2, PART // _FAN)
# The dead are taken off the disk when there are so many, or this share of the items.
_DEAD = 4096
_DEAD_SHARE = 4
# SQLite's own limit on parameters has been far higher for years.
_PARAMETERS = 500


class Record:
    """The rows of one collection. Methods that take a connection run inside `Database.write`."""

    def __init__(self, database: Database, key: int, n_bits: int) -> None:
        self.database = database
        self.key = key
        self._size = code_size(n_bits)
        self._n_words = word_count(n_bits)
        self._next = 0
        # First serial and number of items of each part; serials of the dead, with the version of
        # the rows in memory from which on no reader sees them.
        self._parts: list[tuple[int, int]] = []
        self._dead: list[tuple[int, NDArray[np.int64]]] = []
        self._writes = 0
        self._has_payloads = False
        self._staged_parts: list[tuple[int, int]] = []
        self._staged_dead: list[NDArray[np.int64]] = []

    def load(self) -> Batch:
        """All items that are there, as columns; Unreadable where a checksum does not hold."""
        read = self.database.read
        found = read("SELECT items, next_serial FROM collections WHERE key = ?", (self.key,))
        ((items, self._next),) = found
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
                raise self.database.damaged(f"deaths of collection {self.key}")
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
        descriptors: NDArray[np.float16] | None,
        replaced: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Write items, and that those with the serials `replaced` are dead; their serials."""
        serials = np.arange(self._next, self._next + len(batch))
        self._next += len(batch)
        numbered, staged = replace(batch, serials=serials), []
        for start in range(0, len(batch), PART):
            part = numbered.between(start, start + PART)
            self._put(connection, part)
            staged.append((int(part.serials[0]), len(part)))
        self._put_texts(connection, serials, payloads)
        if descriptors is not None:
            vectors = map(np.ndarray.tobytes, descriptors.astype("<f2"))
            connection.executemany(
                "INSERT INTO descriptors VALUES (?, ?, ?, ?)",
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

    def _put_texts(
        self,
        connection: sqlite3.Connection,
        serials: NDArray[np.int64],
        payloads: Sequence[str | None] | None,
    ) -> None:
        if payloads is not None:
            # Before readers see any of these items; once there were some, they are looked for.
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
        """Write that items are dead."""
        self._put_dead(connection, serials)
        self._count(connection, -len(serials))
        self._staged_dead += [serials] if len(serials) else []

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Nothing of the block stays staged where it fails: its writes are taken back alone."""
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

    def _count(self, connection: sqlite3.Connection, more: int) -> None:
        connection.execute(
            "UPDATE collections SET items = items + ?, next_serial = ? WHERE key = ?",
            (more, self._next, self.key),
        )

    def publish(self, version: int) -> None:
        """What was written is on disk, and readers see it from this version on."""
        self._parts += self._staged_parts
        self._dead += [(version, serials) for serials in self._staged_dead]
        self._writes += 1
        self.undo()

    @property
    def due(self) -> bool:
        """Whether it is time to look for `work`."""
        return self._writes >= _FAN

    def undo(self) -> None:
        """What was written is not on disk."""
        self._staged_parts, self._staged_dead = [], []

    def payloads(self, serials: Iterable[int]) -> dict[int, str]:
        """Payloads as JSON, by serial; those without one are left out."""
        if not self._has_payloads:
            return {}
        return {
            serial: text
            for serial, text, checksum in self._select("payloads", "payload", serials)
            if self._sound(crc32(text.encode()) == checksum, f"the payload of item {serial}")
        }

    def descriptors(self, serials: Sequence[int]) -> NDArray[np.float16]:
        """Descriptors that were kept, in the order asked for."""
        found = {
            serial: data
            for serial, data, checksum in self._select("descriptors", "vector", serials)
            if self._sound(crc32(data) == checksum, f"the descriptor of item {serial}")
        }
        joined = np.frombuffer(b"".join(found[serial] for serial in serials), "<f2")
        return joined.reshape(len(serials), -1).astype(np.float16)

    def dimension(self) -> int | None:
        """Of the descriptors that are kept; None before the first."""
        rows = self.database.read(
            "SELECT length(vector) / 2 FROM descriptors WHERE collection = ? LIMIT 1", (self.key,)
        )
        return rows[0][0] if rows else None

    def _select(self, table: str, column: str, serials: Iterable[int]) -> list[tuple[Any, ...]]:
        wanted, rows = sorted(serials), []
        with self.database.reading() as connection:
            for start in range(0, len(wanted), _PARAMETERS):
                part = wanted[start : start + _PARAMETERS]
                rows += connection.execute(
                    f"SELECT serial, {column}, checksum FROM {table} "  # noqa: S608
                    f"WHERE collection = ? AND serial IN ({', '.join('?' * len(part))})",
                    (self.key, *part),
                ).fetchall()
        return rows

    def _sound(self, holds: bool, what: str) -> bool:
        if not holds:
            raise self.database.damaged(what)
        return True

    def _put(self, connection: sqlite3.Connection, part: Batch) -> None:
        first, (data, checksum) = int(part.serials[0]), part_format.encode(part, self._size)
        connection.execute(
            "INSERT INTO parts VALUES (?, ?, ?, ?, ?)", (self.key, first, len(part), data, checksum)
        )

    def _decode(self, first: int, n: int, data: bytes, checksum: int) -> Batch:
        part = part_format.decode(first, n, data, checksum, self._size)
        if part is None:
            raise self.database.damaged(f"part {first} of collection {self.key}")
        return part

    def work(self, oldest: int) -> tuple[int, int] | None:
        """Which parts, from place to place, would do well to be rewritten; None for none.

        `oldest` is the version of the oldest view in use: what it shows has to stay.
        """
        self._writes = 0
        for most in _LEVELS:
            run = 0
            for place in range(len(self._parts) - 1, -1, -1):
                n = self._parts[place][1]
                run = run + 1 if n < most else 0
                if run == _FAN:
                    return place, place + _FAN
        unseen = [serials for version, serials in self._dead if version <= oldest]
        items = sum(n for _, n in self._parts)
        if sum(map(len, unseen)) > max(_DEAD, items // _DEAD_SHARE):
            firsts = np.array([first for first, _ in self._parts])
            places = np.searchsorted(firsts, np.concatenate(unseen), side="right") - 1
            fullest = int(np.bincount(places).argmax())
            return fullest, fullest + 1
        return (0, 0) if len(unseen) > _FAN**2 else None

    def rewrite(
        self, connection: sqlite3.Connection, low: int, high: int, oldest: int
    ) -> Callable[[], None]:
        """Join parts without their dead, but for what the view `oldest` may show.

        Returns what is to be called when it is on disk.
        """
        old = self._parts[low:high]
        batches = [
            self._decode(*row)
            for first, _ in old
            for row in connection.execute(
                "SELECT first, n, data, checksum FROM parts WHERE collection = ? AND first = ?",
                (self.key, first),
            ).fetchall()
        ]
        whole = Batch.join(batches, self._n_words)
        removable = [serials for version, serials in self._dead if version <= oldest]
        unseen = np.concatenate([np.empty(0, np.int64), *removable])
        gone = np.intersect1d(whole.serials, unseen)
        kept = whole.without(gone)
        new = []
        connection.executemany(
            "DELETE FROM parts WHERE collection = ? AND first = ?",
            [(self.key, first) for first, _ in old],
        )
        if len(kept):
            self._put(connection, kept)
            new.append((int(kept.serials[0]), len(kept)))
        for table in ("payloads", "descriptors"):
            connection.executemany(
                f"DELETE FROM {table} WHERE collection = ? AND serial = ?",  # noqa: S608
                ((self.key, serial) for serial in gone.tolist()),
            )
        seen = [(version, serials) for version, serials in self._dead if version > oldest]
        left = [(-1, rest)] if len(rest := np.setdiff1d(unseen, gone)) else []
        dead = left + seen
        connection.execute("DELETE FROM deaths WHERE collection = ?", (self.key,))
        for _, serials in dead:
            self._put_dead(connection, serials)

        def done() -> None:
            self._parts[low:high] = new
            self._dead = dead

        return done
