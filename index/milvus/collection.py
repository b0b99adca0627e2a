"""A collection in Milvus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import Codes, code_size
from index.callbacks import Checkpoint, Count
from index.changes import checked_patches, patched
from index.errors import InvalidItems, NotFound
from index.filters.filter import Filter
from index.filters.milvus import to_milvus
from index.milvus import reading, search
from index.milvus.about import About
from index.milvus.catalog import Catalog, Row
from index.milvus.fetched import FEW, Fetched
from index.milvus.server import columns as fields
from index.milvus.server.columns import CODE, DESCRIPTOR, LABEL, PAYLOAD, SERIAL, Columns
from index.milvus.server.physical import REACH, At, Consistency, Physical, at
from index.milvus.writes import Writes
from index.search.depth import neighbour_ranks
from index.search.estimate import Terms
from index.search.rerank import reranked
from index.search.results import as_found, describe
from index.types import (
    Answer,
    Certificate,
    CodeBatch,
    CodeSample,
    DescriptorBatch,
    Found,
    Item,
    ItemBatch,
    Patch,
    SearchOptions,
)
from index.validation import (
    Payload,
    as_ids,
    as_kept,
    as_label_column,
    as_plain,
    as_texts,
    as_words,
    check_codes,
    check_given,
    check_hamming,
    check_ids,
    check_keeps_descriptors,
)

# Ids per deletion, which Milvus shows to readers as a whole.
_DELETED = REACH


class Collection(About):
    """Items in Milvus: a `Collection` of `index.backend`. Made by `MilvusStore`.

    Each call reads the collection's row in the database first, so that it sees what other replicas
    do: after `drop` it raises NotFound, and after `reencode` Replaced.
    """

    def __init__(
        self,
        row: Row,
        catalog: Catalog,
        physical: Physical,
        writes: Writes,
        consistency: Consistency,
    ) -> None:
        super().__init__(row, catalog, writes)
        self.physical, self._consistency = physical, consistency
        # The last count of all items, and the row for which it holds.
        self._counted: tuple[tuple[int, int], int] | None = None

    def __len__(self) -> int:
        with self.writes.reading() as row:
            now = row.version, row.next_serial
            if self._counted is not None and self._counted[0] == now:
                return self._counted[1]
            n = self.physical.count("", at("session", row.stamp))
            # A write may go on, whose items are there before it is confirmed.
            if not self._catalog.has_unconfirmed(self.key) and self.writes.row() == row:
                self._counted = now, n
            return n

    def upsert(
        self,
        ids: Iterable[str | int],
        codes: Codes,
        labels: Sequence[int | None] | NDArray[np.integer] | None = None,
        payloads: Sequence[Payload | None] | None = None,
        descriptors: ArrayLike | None = None,
        *,
        factors: ArrayLike | None = None,
    ) -> None:
        """Insert or replace items: all of them or, on an error, none.

        Raise Unavailable if Milvus does not answer: they may then be there or not, and repeating
        the call is safe.
        """
        strings = as_ids(ids)
        plain = None if descriptors is None else as_plain(descriptors)
        self._put(strings, codes, labels, as_texts(payloads, len(strings)), plain, factors)

    def put(self, batch: ItemBatch) -> None:
        """Insert items as `upsert` does, with payloads that are JSON already."""
        self._put(*batch)

    def _put(
        self,
        ids: Sequence[str],
        codes: Codes,
        labels: Sequence[int | None] | NDArray[np.integer] | None,
        texts: Sequence[str | None] | None,
        descriptors: ArrayLike | None,
        factors: ArrayLike | None,
    ) -> None:
        check_ids(ids)
        check_codes(codes, len(ids), self.n_bits)
        as_words(codes, factors, None)
        column = as_label_column(labels, len(ids))
        kept = self.descriptor_type
        check_given(self.name, kept, descriptors)
        fields.check_ids_fit(ids)
        payloads = fields.as_payloads(ids, texts)
        with self.writes.alone() as row:
            rows: list[str] = []
            dimension = None
            if kept is not None and descriptors is not None:
                rounded = as_kept(descriptors, len(ids), row.dimension, kept)
                rows, dimension = fields.as_text(rounded), rounded.shape[1]
            if not len(ids):
                return
            serials = np.arange(row.next_serial, row.next_serial + len(ids))
            columns = Columns(list(ids), codes, column, serials, payloads, rows)
            self.writes.upsert(row, columns, dimension=dimension)

    def end(self) -> int:
        """Return a number that is larger than all serial numbers."""
        return self.writes.row().next_serial

    def as_kept(self, descriptors: ArrayLike) -> NDArray[Any]:
        """Return descriptors rounded as this collection keeps them."""
        check_keeps_descriptors(self.name, self.descriptor_type)
        X, kept = np.asarray(descriptors), self.descriptor_type or "float32"
        return as_kept(X, len(X), self.dimension, kept)

    def delete(self, ids: Iterable[str | int]) -> int:
        """Delete items and return how many there were; skip unknown ids."""
        wanted = list(dict.fromkeys(as_ids(ids)))
        with self.writes.alone() as row:
            n = 0
            for columns, _ in reading.by_ids(self.physical, wanted, [], at("session", row.stamp)):
                if columns.ids:
                    self.writes.delete(row, columns.ids)
                n += len(columns.ids)
            return n

    def delete_matching(self, where: Filter, checkpoint: Checkpoint = lambda: None) -> int:
        """Delete the items that match at one moment; return how many they were.

        Milvus shows that to readers in steps of 16,384 items. `checkpoint` may raise before them.
        """
        condition = to_milvus(where)
        with self.writes.alone() as row:
            now = at("session", row.stamp)
            found = reading.scan(self.physical, condition, [], now, self.end, REACH, checkpoint)
            ids = [name for columns in found for name in columns.ids]
            checkpoint()
            for first in range(0, len(ids), _DELETED):
                self.writes.delete(row, ids[first : first + _DELETED])
            return len(ids)

    def patch(
        self,
        ids: Iterable[str | int],
        patches: Sequence[Mapping[str, Any]],
        count: Count = lambda n: None,
    ) -> None:
        """Change labels and payloads of items: of all of them or, on an error, of none."""
        self._patch(as_ids(ids), patches, count)

    def patch_one(self, item_id: str | int, patch: Mapping[str, Any]) -> Item:
        """Change one item as `patch` does; return it as it is then."""
        columns = self._patch(as_ids([item_id]), [patch], lambda n: None)
        return self._items(columns, np.arange(1), lambda n: None)[0]

    def _patch(
        self, ids: Sequence[str], patches: Sequence[Mapping[str, Any]], count: Count
    ) -> Columns:
        if not ids:
            return fields.joined([], self.n_bits)
        ids, patches, new_labels = checked_patches(ids, patches)
        with self.writes.alone() as row:
            names = [LABEL, SERIAL, CODE, PAYLOAD, *[DESCRIPTOR] * self.keep_descriptors]
            old = self._of_ids(ids, names, at("session", row.stamp), count)
            labels = np.where(["label" in each for each in patches], new_labels, old.labels)
            texts = [
                patched(payload, patches[place], ids[place], place)
                for place, payload in enumerate(old.payloads)
            ]
            new = Columns(
                list(ids),
                old.codes,
                labels,
                np.arange(row.next_serial, row.next_serial + len(ids)),
                fields.as_payloads(ids, texts),
                old.descriptors,
            )
            self.writes.upsert(row, new, patched=old.serials)
        return new

    def _of_ids(
        self, ids: Sequence[str], names: Sequence[str], at: At, count: Count = lambda n: None
    ) -> Columns:
        """Return items in the order of ids; raise NotFound if one is missing."""
        parts = []
        size = FEW if {PAYLOAD, DESCRIPTOR} & set(names) else REACH
        for first, (columns, places) in zip(
            range(0, len(ids), size),
            reading.by_ids(self.physical, ids, names, at, size),
            strict=True,
        ):
            if (places < 0).any():
                missing = ids[first + int(np.argmax(places < 0))]
                raise NotFound(f"there is no item {missing!r} in collection {self.name!r}")
            count(sum(len(each or b"") for each in columns.payloads))
            count(sum(len(each) * 3 // 4 for each in columns.descriptors))
            parts.append(fields.chosen(columns, places))
        return fields.joined(parts, self.n_bits)

    def follow_patches(self) -> None:
        """Record from now on which items patches write again, of all replicas."""
        self._catalog.follow_patches(self.key)

    def patches(self, since: int) -> list[Patch]:
        """Return the recorded patches whose first new serial number is `since` or later."""
        return self._catalog.patches(self.key, since)

    def forget_patches(self, before: int) -> None:
        """Delete the recorded patches whose first new serial number is smaller."""
        self._catalog.forget_patches(self.key, before)

    def get(self, item_id: str | int) -> Item:
        """Return one item; raise NotFound if there is none with this id."""
        with self.writes.reading() as row:
            columns = self._of_ids(as_ids([item_id]), [LABEL, CODE, PAYLOAD], self._at(row))
        return self._items(columns, np.arange(1), lambda n: None)[0]

    def items(
        self,
        offset: int,
        limit: int,
        count: Count = lambda n: None,
        *,
        where: Filter | None = None,
        checkpoint: Checkpoint = lambda: None,
    ) -> tuple[list[Item], int]:
        """Return a page of the items that match, in the order of insertion, and how many match.

        If items are written meanwhile, both may be of different moments.
        """
        condition = _condition(where)
        for _ in range(search.TRIES):
            with self.writes.reading() as row:
                now = self._at_each(row)
                ids, n = reading.page(
                    self.physical, condition, offset, limit, row.next_serial, now, checkpoint
                )
                try:
                    columns = self._of_ids(ids, [LABEL, CODE, PAYLOAD], now)
                except NotFound:
                    continue  # Deleted meanwhile.
            return self._items(columns, np.arange(len(ids)), count), n
        raise search.too_many_changes()

    def _items(self, columns: Columns, rows: NDArray[np.int64], count: Count) -> list[Item]:
        count(2 * code_size(self.n_bits) * len(rows))
        if not len(rows):
            return []
        items = Fetched(columns, self.descriptor_type, lambda where, names: columns)
        return [
            Item(item_id, code.tobytes(), label, payload)
            for code, (item_id, label, payload) in zip(
                items.codes(rows), describe(items, rows, count), strict=True
            )
        ]

    def count(self, where: Filter, checkpoint: Checkpoint = lambda: None) -> int:
        """Return how many items match a filter."""
        condition = to_milvus(where)
        with self.writes.reading() as row:
            return self.physical.count(condition, self._at(row))

    def is_ready(self, where: Filter) -> bool:
        """Return True: Milvus evaluates each filter as it searches."""
        return True

    def search(
        self,
        codes: Codes,
        options: SearchOptions,
        *,
        descriptors: ArrayLike | None = None,
        projections: ArrayLike | None = None,
        terms: Terms | None = None,
        epsilon: float | None = None,
        checkpoint: Checkpoint = lambda: None,
        count: Count = lambda n: None,
    ) -> list[Found]:
        """Return the nearest items of each query, with ties in the order of the ids.

        Raise InvalidItems if more than 16,384 items are asked for, or a filter has no expression.
        """
        check_codes(codes, len(codes), self.n_bits)
        check_hamming(self.name, options.max_score, options.confidence)
        condition = _condition(options.where)
        if options.depth > REACH:
            raise InvalidItems(
                f"a search in Milvus reaches at most {REACH} items, with offset, k and rerank; "
                f"this one asks for {options.depth}"
            )
        for _ in range(search.TRIES):
            with self.writes.reading() as row:
                try:
                    answers, items = self._nearest(codes, options, condition, row, checkpoint)
                    scores = None
                    if options.rerank is not None:
                        answers, scores = reranked(
                            self, items, answers, options, descriptors, projections, checkpoint
                        )
                    return as_found(items, answers, scores, codes, options, count)
                except search.Changed:
                    checkpoint()
        raise search.too_many_changes()

    def _nearest(
        self,
        codes: Codes,
        options: SearchOptions,
        condition: str,
        row: Row,
        checkpoint: Checkpoint,
    ) -> tuple[list[Answer], Fetched]:
        names: tuple[str, ...] = search.LIGHT
        if options.codes or options.rerank is not None:
            names += (CODE,)
        if options.payloads and options.rerank is None and len(codes) * options.depth <= FEW // 4:
            names += (PAYLOAD,)
        # The one shard of a collection does not go back to what was before the first call.
        now, again = self._at(row), self._at_each(row)
        query = search.Query(
            options.depth, options.radius, condition, names, now, again, options.count_within
        )
        found = search.nearest(self.physical, codes, self.n_bits, query, checkpoint)
        is_exact = self.physical.is_exact()
        answers, first = [], 0
        for hits in found:
            rows = np.arange(first, first + len(hits.distances))
            first += len(rows)
            n = hits.within
            of = Certificate(
                is_exact, self.n_bits, None, hits.tie, n, None if n is None else n > len(rows)
            )
            answers.append(Answer(rows, hits.distances, of))
        items = Fetched(
            fields.joined([hits.columns for hits in found if hits.columns.ids], self.n_bits),
            self.descriptor_type,
            lambda where, names: self.physical.query(where, names, again),
        )
        return answers, items

    def codes(self, ids: Iterable[str | int]) -> Codes:
        """Return the codes of items; raise NotFound if one is missing."""
        wanted = as_ids(ids)
        with self.writes.reading() as row:
            return self._of_ids(wanted, [CODE], self._at(row)).codes

    def descriptors(self, ids: Iterable[str | int]) -> NDArray[Any]:
        """Return the descriptors of items; raise NotFound if one is missing."""
        wanted = as_ids(ids)
        check_keeps_descriptors(self.name, self.descriptor_type)
        kept = self.descriptor_type or "float32"
        with self.writes.reading() as row:
            texts = self._of_ids(wanted, [DESCRIPTOR], self._at(row)).descriptors
        found = fields.as_descriptors(texts, kept)
        return found if texts else np.empty((0, self.dimension or 0), kept)

    def has_labels(self) -> bool:
        """Return whether any item has a label."""
        with self.writes.reading() as row:
            return bool(self.physical.query("label >= 0", [], self._at(row), 1).ids)

    def sample_codes(self, limit: int, seed: int = 0) -> CodeSample:
        """Return codes of items chosen at random, and the number of all items."""
        n = len(self)
        with self.writes.reading() as row:
            now = self._at_each(row)
            drawn = reading.sample(self.physical, n, row.next_serial, limit, seed, now)
            if drawn is None:
                moment = self._moment(row)
                n = len(moment)
                rng = np.random.default_rng(seed)
                drawn = moment.codes[rng.choice(n, min(limit, n), replace=False)]
            return CodeSample(drawn, n)

    def moment(self) -> reading.Moment:
        """Return the items of this moment, to measure samples of them."""
        with self.writes.reading() as row:
            return self._moment(row)

    def _moment(self, row: Row) -> reading.Moment:
        kept = self.descriptor_type
        return reading.Moment(
            self.physical, self.name, kept, self._at_each(row), self.end, self.n_bits
        )

    def neighbour_ranks(
        self, n_queries: int, k: int, checkpoint: Checkpoint = lambda: None
    ) -> NDArray[np.int64]:
        """Return what `index.search.depth.neighbour_ranks` measures on the items."""
        check_keeps_descriptors(self.name, self.descriptor_type)
        return neighbour_ranks(self.moment(), self.n_bits, n_queries, k, checkpoint)

    def code_batches(
        self, where: Filter | None = None, checkpoint: Checkpoint = lambda: None
    ) -> Iterator[CodeBatch]:
        """Yield ids and codes of the current items that match, some at a time."""
        for columns in self._scan(_condition(where), [CODE], REACH, checkpoint):
            yield CodeBatch(columns.ids, columns.codes)

    def descriptor_batches(self) -> Iterator[DescriptorBatch]:
        """Yield ids, labels and descriptors of the current items, some at a time."""
        check_keeps_descriptors(self.name, self.descriptor_type)
        kept = self.descriptor_type or "float32"
        for columns in self._scan("", [LABEL, DESCRIPTOR], 4096):
            descriptors = fields.as_descriptors(columns.descriptors, kept)
            yield DescriptorBatch(columns.ids, columns.labels, descriptors)

    def item_batches(self, size: int) -> Iterator[ItemBatch]:
        """Yield the current items in the order of insertion, at most `size` at a time.

        Each is as it is when its batch is read, and comes last if it is written again meanwhile.
        """
        kept = self.descriptor_type
        names = [LABEL, CODE, PAYLOAD, *[DESCRIPTOR] * (kept is not None)]
        for columns in self._scan("", names, size):
            yield ItemBatch(
                columns.ids,
                columns.codes,
                columns.labels,
                [None if each is None else each.decode() for each in columns.payloads],
                None if kept is None else fields.as_descriptors(columns.descriptors, kept),
                None,
            )

    def _scan(
        self,
        condition: str,
        names: Sequence[str],
        size: int,
        checkpoint: Checkpoint = lambda: None,
    ) -> Iterator[Columns]:
        with self.writes.reading() as row:
            now = self._at_each(row)
            yield from reading.scan(
                self.physical, condition, names, now, self.end, size, checkpoint
            )

    def _at(self, row: Row) -> At:
        return at(self._consistency, row.stamp)

    def _at_each(self, row: Row) -> At:
        """Return what each of many calls sees, which need not all wait for the next time tick."""
        return at("bounded" if self._consistency == "bounded" else "session", row.stamp)


def _condition(where: Filter | None) -> str:
    return "" if where is None else to_milvus(where)
