"""A collection: items with codes, labels and payloads, on disk and searchable."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import Codes, code_size, to_codes, to_words
from index.errors import AlreadyExists, InvalidItems, NotFound, Replaced
from index.memory.columns import Columns
from index.memory.ids import pack
from index.memory.rows import Rows
from index.memory.segment import Batch
from index.memory.trim import give_back
from index.memory.view import View
from index.search.exact import Answer, search
from index.search.rerank import by_bits, by_descriptor
from index.search.results import describe, found, with_codes
from index.storage.database import Database
from index.storage.record import Record
from index.types import Found, Item, SearchOptions
from index.validation import Payload, as_half, as_label_column, as_texts, check_codes, check_ids

CHUNK = 4096


class Collection:
    """Items under string ids, found by the Hamming distance of their codes.

    Safe for threads: a search sees a batch of writes whole or not at all, and waits for none. A
    write that has returned is on disk. Made by `Store`.

    Attributes
    ----------
    name : str
    n_bits : int
        Code length.
    encoder, fingerprint : str
        What the codes were made by, in the words of whoever made the collection.
    keep_descriptors : bool
        Whether items come with their descriptors, which are kept as float16.
    """

    def __init__(
        self,
        database: Database,
        key: int,
        name: str,
        n_bits: int,
        encoder: str,
        fingerprint: str,
        keep_descriptors: int,
        wake: Callable[[Collection], None],
    ) -> None:
        self.name = name
        self.key = key
        self.n_bits = n_bits
        self.encoder = encoder
        self.fingerprint = fingerprint
        self.keep_descriptors = bool(keep_descriptors)
        self._database = database
        self._wake = wake
        self._gone: NotFound | None = None
        self._size = code_size(n_bits)
        self._record = Record(database, key, self._size)
        self._rows = Rows(n_bits, self._record.load())
        self._columns = Columns(self._record)
        self._dimension = self._record.dimension()
        # Ids written while a re-encoding copies the items.
        self._touched: set[str] | None = None
        wake(self)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dimension(self) -> int | None:
        """Of the descriptors that are kept; None before the first."""
        return self._dimension

    def upsert(
        self,
        ids: Sequence[str],
        codes: Codes,
        labels: Sequence[int | None] | NDArray[np.int64] | None = None,
        payloads: Sequence[Payload | None] | None = None,
        descriptors: ArrayLike | None = None,
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
        descriptors : (n, d), where the collection keeps them and only there
            Stored as float16; every batch has the d of the first.

        Raises
        ------
        InvalidItems
        NotFound
            The collection has been dropped; `Replaced` where it has been re-encoded.
        Full
            There is no room on the disk.
        """
        check_ids(ids)
        check_codes(codes, len(ids), self.n_bits)
        column, texts = as_label_column(labels, len(ids)), as_texts(payloads, len(ids))
        if self.keep_descriptors != (descriptors is not None):
            raise InvalidItems(
                f"collection {self.name!r} "
                + (
                    "keeps descriptors: give one for each item"
                    if self.keep_descriptors
                    else "keeps no descriptors: make it with keep_descriptors to give some"
                )
            )
        half = None if descriptors is None else as_half(descriptors, len(ids), self._dimension)
        self.put(ids, to_words(codes), column, texts, half)

    def put(
        self,
        ids: Sequence[str],
        words: NDArray[np.uint64],
        labels: NDArray[np.int64],
        texts: list[str | None] | None,
        half: NDArray[np.float16] | None,
    ) -> None:
        """Upsert what has been checked: labels with -1 for none, payloads as JSON."""
        if not ids:
            return
        data, lengths = pack(ids)
        batch = Batch(data, lengths, words, labels, np.empty(0, np.int64))

        def work(connection: sqlite3.Connection) -> None:
            self._check_there()
            if half is not None and half.shape[1] != (self._dimension or half.shape[1]):
                raise InvalidItems(
                    f"expected descriptors of {self._dimension} numbers, got {half.shape[1]}"
                )
            rows, serials = self._rows.find_staged(ids)
            there = rows >= 0
            with self._record.whole():
                new = self._record.insert(connection, batch, texts, half, serials[there])
                self._rows.stage(ids, words, labels, new, rows[there])
            if half is not None:
                self._dimension = half.shape[1]

        self._write(work, ids)

    def delete(self, ids: Sequence[str]) -> int:
        """Remove the items of these ids; how many were there. Unknown ids are no error."""
        unique = list(dict.fromkeys(ids))

        def work(connection: sqlite3.Connection) -> int:
            self._check_there()
            rows, serials = self._rows.find_staged(unique)
            there = np.flatnonzero(rows >= 0)
            with self._record.whole():
                self._record.delete(connection, serials[there])
                self._rows.stage_deletion([unique[place] for place in there.tolist()], rows[there])
            return len(there)

        deleted: int = self._write(work, unique)
        return deleted

    def _write(self, work: Callable[[sqlite3.Connection], Any], ids: Sequence[str]) -> Any:
        def publish() -> None:
            self._rows.publish()
            self._record.publish(self._rows.version)
            # Another thread may set it to None at any moment.
            if (touched := self._touched) is not None:
                touched.update(ids)

        def undo() -> None:
            self._rows.undo()
            self._record.undo()

        result = self._database.write(work, publish, undo)
        if self._rows.unsettled or self._record.due:
            self._wake(self)
        return result

    def get(self, item_id: str) -> Item:
        """One item; NotFound where there is none."""
        with self._reading():
            view, rows = self._locate([item_id])
            code = to_codes(view.words(rows), self._size)[0].tobytes()
            ((_, label, payload),) = describe(view, rows, self._record)
        return Item(item_id, code, label, payload)

    def some(self, offset: int, limit: int) -> tuple[list[Item], int]:
        """Items from a place on, in the order in which they were put in; and how many."""
        view, rows = self.moment()
        n = len(rows)
        rows = rows[np.argsort(view.serials(rows), kind="stable")[offset : offset + limit]]
        with self._reading():
            codes = to_codes(view.words(rows), self._size)
            described = describe(view, rows, self._record)
            return [
                Item(item_id, code.tobytes(), label, payload)
                for code, (item_id, label, payload) in zip(codes, described, strict=True)
            ], n

    def codes(self, ids: Sequence[str]) -> Codes:
        """The codes of items, (len(ids), size); NotFound where there is no such item."""
        self._check_there()
        view, rows = self._locate(ids)
        return to_codes(view.words(rows), self._size)

    def descriptors(self, ids: Sequence[str]) -> NDArray[np.float16]:
        """The descriptors of items, (len(ids), d), where they are kept; NotFound, InvalidItems."""
        self._check_keeps()
        with self._reading():
            return self.stored_descriptors(*self._locate(ids))

    def search(
        self,
        queries: Codes,
        options: SearchOptions,
        *,
        descriptors: ArrayLike | None = None,
        projections: ArrayLike | None = None,
    ) -> list[Found]:
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
        codes : bool
            Whether to return the codes, of queries and neighbours.
        offset : int
            How many of the nearest to leave out: those of the pages before.
        where : Filter, optional
            Only items for which this holds are searched.
        rerank : int, optional
            Take the first so many by Hamming distance, and order them anew: by Euclidean distance
            to `descriptors`, (q, d), which takes a collection that keeps them, or else by the
            asymmetric distance of `projections`, (q, n_bits).

        Raises
        ------
        InvalidItems
        NotFound
            The collection has been dropped.
        """
        k, radius, offset, rerank = options.k or 10, options.radius, options.offset, options.rerank
        where, payloads, codes = options.where, options.payloads, options.codes
        check_codes(queries, len(queries), self.n_bits)
        if k < 1:
            raise InvalidItems(f"k must be at least 1, got {k}")
        if radius is not None and radius < 0:
            raise InvalidItems(f"radius must be at least 0, got {radius}")
        if offset < 0:
            raise InvalidItems(f"offset must be at least 0, got {offset}")
        if rerank is not None and rerank < offset + k:
            raise InvalidItems(f"rerank must be at least offset + k = {offset + k}, got {rerank}")
        with self._reading():
            view = self._rows.view()
            mask = None if where is None else where.mask(view, self._columns)
            answers = search(view, to_words(queries), rerank or offset + k, radius, mask)
            scores: list[NDArray[np.float64]] | None = None
            if rerank is not None:
                answers, scores = self._rerank(view, answers, descriptors, projections)
            page = slice(offset, offset + k)
            near = found(view, answers, scores, page, self._record if payloads else None)
            return with_codes(view, answers, page, queries, near) if codes else near

    def _rerank(
        self,
        view: View,
        answers: list[Answer],
        descriptors: ArrayLike | None,
        projections: ArrayLike | None,
    ) -> tuple[list[Answer], list[NDArray[np.float64]]]:
        if descriptors is not None:
            self._check_keeps()
            return by_descriptor(view, answers, descriptors, self._dimension, self._record)
        if projections is None:
            raise InvalidItems("rerank takes the descriptors of the queries or their projections")
        return by_bits(view, answers, projections, self.n_bits)

    def drop(self) -> None:
        """Remove the record; every further call raises NotFound. `Store.drop` forgets the name."""

        def work(connection: sqlite3.Connection) -> None:
            self._check_there()
            connection.execute("DELETE FROM collections WHERE key = ?", (self.key,))

        def publish() -> None:
            self._gone = NotFound(f"there is no collection {self.name!r}")

        with self._database.exclusive():
            self._database.write(work, publish, lambda: None)

    def watch(self) -> set[str]:
        """The ids that are written from now on, until `unwatch`: it grows."""
        self._check_there()
        self._check_keeps()
        with self._database.exclusive():
            if self._touched is not None:
                raise AlreadyExists(f"collection {self.name!r} is being encoded anew already")
            self._touched = set()
            return self._touched

    def unwatch(self) -> None:
        """Watch no more."""
        self._touched = None

    def moment(self) -> tuple[View, NDArray[np.int64]]:
        """What is there now, and its rows."""
        self._check_there()
        view = self._rows.view()
        return view, np.arange(view.n_rows) if view.alive is None else np.flatnonzero(view.alive)

    def locate(self, ids: Sequence[str]) -> tuple[View, NDArray[np.int64]]:
        """What is there now, and the row of each id, -1 where there is none."""
        return self._rows.locate(ids)

    def stored_payloads(self, view: View, rows: NDArray[np.int64]) -> list[str | None]:
        """Payloads of rows, as JSON."""
        serials = view.serials(rows).tolist()
        with self._reading():
            texts = self._record.payloads(serials)
        return [texts.get(serial) for serial in serials]

    def stored_descriptors(self, view: View, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Descriptors of rows, where they are kept."""
        with self._reading():
            return self._record.descriptors(view.serials(rows).tolist())

    def take_over(self, old: Collection) -> None:
        """Have the name of another from now on, and end that one."""

        def work(connection: sqlite3.Connection) -> None:
            old._check_there()
            connection.execute("DELETE FROM collections WHERE key = ?", (old.key,))
            connection.execute(
                "UPDATE collections SET name = ? WHERE key = ?", (old.name, self.key)
            )

        def publish() -> None:
            self.name = old.name
            old._gone = Replaced(f"collection {old.name!r} has been encoded anew")

        self._database.write(work, publish, lambda: None)

    def dataset(self) -> Iterator[tuple[list[str], NDArray[np.int64], NDArray[np.float16]]]:
        """All items of this moment, some at a time: ids, labels (-1 for none) and descriptors.

        Raises InvalidItems where none are kept.
        """
        self._check_keeps()
        for ids, _, labels, _, kept in self.export():
            if kept is not None:
                yield ids, labels, kept

    def export(
        self,
    ) -> Iterator[
        tuple[
            list[str],
            Codes,
            NDArray[np.int64],
            list[dict[str, Any] | None],
            NDArray[np.float16] | None,
        ]
    ]:
        """All items of this moment, some at a time, as `upsert` takes them."""
        view, rows = self.moment()
        for first in range(0, len(rows), CHUNK):
            part = rows[first : first + CHUNK]
            texts = self.stored_payloads(view, part)
            payloads = [None if text is None else json.loads(text) for text in texts]
            kept = self.stored_descriptors(view, part) if self.keep_descriptors else None
            codes = to_codes(view.words(part), self._size)
            yield view.names(part), codes, view.labels(part), payloads, kept

    def rename(self, name: str) -> None:
        """Have another name from now on."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE collections SET name = ? WHERE key = ?", (name, self.key))

        def publish() -> None:
            self.name = name

        self._database.write(work, publish, lambda: None)

    def maintain(self) -> None:
        """Do what keeps searches and start-up fast: join parts, build tables anew."""

        def work(connection: sqlite3.Connection) -> Callable[[], None] | None:
            oldest = self._rows.oldest()
            todo = None if self._gone else self._record.work(oldest)
            return None if todo is None else self._record.rewrite(connection, *todo, oldest)

        while self._rewrite(work):
            pass
        if self._rows.unsettled:
            self._rows.settle(self._database.exclusive())
            give_back()

    def _rewrite(self, work: Callable[[sqlite3.Connection], Callable[[], None] | None]) -> bool:
        finish: list[Callable[[], None]] = []

        def noted(connection: sqlite3.Connection) -> None:
            if done := work(connection):
                finish.append(done)

        # Alone: what others stage in the same transaction it would not know.
        with self._database.exclusive():
            self._database.write(noted, lambda: [done() for done in finish], lambda: None)
        return bool(finish)

    def _locate(self, ids: Sequence[str]) -> tuple[View, NDArray[np.int64]]:
        view, rows = self._rows.locate(ids)
        if (rows < 0).any():
            missing = ids[int(np.argmax(rows < 0))]
            raise NotFound(f"there is no item {missing!r} in collection {self.name!r}")
        return view, rows

    def _check_keeps(self) -> None:
        if not self.keep_descriptors:
            raise InvalidItems(
                f"collection {self.name!r} keeps no descriptors: make it with keep_descriptors"
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What the block reads from the record is whole: the collection has not gone meanwhile."""
        self._check_there()
        try:
            yield
        except KeyError:
            self._check_there()
            raise
        self._check_there()

    def _check_there(self) -> None:
        if self._gone is not None:
            raise self._gone
