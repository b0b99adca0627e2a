"""A collection: items with codes, labels and payloads, on disk and searchable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import Codes, code_size
from index import changes
from index.callbacks import Checkpoint, Count
from index.filters import evaluate
from index.filters.filter import Filter
from index.memory.moment import Moment
from index.memory.view import View
from index.search.depth import neighbour_ranks
from index.search.estimate import Terms
from index.search.items import Stored
from index.search.ranking import Given, nearest
from index.search.rerank import reranked
from index.search.results import as_found, describe
from index.state import State
from index.storage.catalog import DescriptorType, Metric
from index.types import (
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
    check_ids,
)

# Items per batch where all of them are read.
_CHUNK = 4096


class Collection:
    """Items with string ids, searched by the Hamming distance of their codes or by estimates.

    Made by `Store`. Safe for threads: a search sees each batch of writes as a whole or not at all,
    and waits for no write. A write that has returned is on disk.

    After `Store.drop`, every call that needs the items raises NotFound; after `Store.reencode` it
    raises `Replaced`.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def __len__(self) -> int:
        return len(self._state.rows)

    @property
    def key(self) -> int:
        """The key in the table of collections, which no other collection ever gets."""
        return self._state.key

    @property
    def name(self) -> str:
        """The name."""
        return self._state.name

    @property
    def n_bits(self) -> int:
        """Code length."""
        return self._state.n_bits

    @property
    def encoder(self) -> str:
        """Name of the encoder that makes the codes, as given to `Store.create`."""
        return self._state.encoder

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the encoder that makes the codes, as given to `Store.create`."""
        return self._state.fingerprint

    @property
    def keep_descriptors(self) -> bool:
        """Whether items come with their descriptors, which are kept as `descriptor_type` says."""
        return self._state.descriptor_type is not None

    @property
    def descriptor_type(self) -> DescriptorType | None:
        """How descriptors are kept; None if they are not."""
        return self._state.descriptor_type

    @property
    def dimension(self) -> int | None:
        """The dimension of the descriptors that are kept; None before the first."""
        return self._state.dimension

    @property
    def written(self) -> int:
        """Number of items that were ever written; those that replace others count too.

        It counts what readers see. A write that goes on does not count yet.
        """
        return self._state.record.written

    @property
    def version(self) -> int:
        """Another number after each write that searches see."""
        return self._state.rows.version

    @property
    def metric(self) -> Metric | None:
        """The distance that items are ranked by the estimates of; None for the Hamming distance."""
        return self._state.metric

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
        """Insert items, or replace those that have these ids: all of them or, on an error, none.

        Parameters
        ----------
        ids : (n,) str or int
            1 to 256 characters each, without duplicates; integers become their decimal digits.
        codes : (n, ceil(n_bits / 8)) uint8
            Packed, with clear padding bits.
        labels : (n,) int, optional
            From 0 to 2**63 - 1; None or -1 for an item without one. A replaced item loses its
            label.
        payloads : (n,) mappings that JSON can hold, optional
            At most 64 KiB of UTF-8 each, as compact JSON. A replaced item loses its payload.
        descriptors : (n, d), where the collection keeps them and only there
            Rounded to `descriptor_type`; every batch has the d of the first.
        factors : (n, 3) float32, where the collection ranks by estimates and only there
            Scale, offset and error of each item.

        Raises
        ------
        InvalidItems
        NotFound
        Full
            The disk has no room.
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
        state = self._state
        check_ids(ids)
        check_codes(codes, len(ids), state.n_bits)
        words = as_words(codes, factors, state.metric)
        column = as_label_column(labels, len(ids))
        kept = state.descriptor_type
        check_given(state.name, kept, descriptors)
        rounded = None
        if kept is not None and descriptors is not None:
            rounded = as_kept(descriptors, len(ids), state.dimension, kept)
        state.put(ids, words, column, texts, rounded)

    def as_kept(self, descriptors: ArrayLike) -> NDArray[Any]:
        """Return descriptors, (n, d), rounded as this collection keeps them.

        Raise InvalidItems if it keeps none, or if it cannot keep these.
        """
        state = self._state
        state.check_keeps_descriptors()
        X, kept = np.asarray(descriptors), state.descriptor_type or "float32"
        return as_kept(X, len(X), state.dimension, kept)

    def delete(self, ids: Iterable[str | int]) -> int:
        """Delete the items with these ids and return how many there were. Ignore unknown ids."""
        return self._state.delete(list(dict.fromkeys(as_ids(ids))))

    def delete_matching(self, where: Filter, checkpoint: Checkpoint = lambda: None) -> int:
        """Delete the items that match a filter at one moment, and return how many they were.

        `checkpoint` may raise to give up; nothing is deleted then.
        """
        return changes.delete_matching(self._state, where, checkpoint)

    def patch(
        self,
        ids: Iterable[str | int],
        patches: Sequence[Mapping[str, Any]],
        count: Count = lambda n: None,
    ) -> None:
        """Change labels or payloads of items: of all of them or, on an error, of none.

        The items come last in the order of `items` then.

        Parameters
        ----------
        ids : (n,) str or int
            Distinct ids of items.
        patches : (n,) mappings
            JSON merge patches (RFC 7396) with `label`, `payload` or both. What a patch does not
            name stays as it is, also inside the payload; None removes it.
        count : callable
            Called with the bytes of payloads and descriptors that are read to be written again. It
            may raise to give up.

        Raises
        ------
        InvalidItems
        NotFound
            An item is missing.
        Full
            The disk has no room.
        """
        changes.patch(self._state, as_ids(ids), patches, count)

    def patch_one(self, item_id: str | int, patch: Mapping[str, Any]) -> Item:
        """Change one item as `patch` does, and return it as it is then."""
        return changes.patch_one(self._state, as_ids([item_id])[0], patch)

    def follow_patches(self) -> None:
        """Record from now on, until the store is closed, which items patches write again."""
        self._state.patches.follow()

    def patches(self, since: int) -> list[Patch]:
        """Return the recorded patches whose first new serial number is `since` or later."""
        return self._state.patches.since(since)

    def forget_patches(self, before: int) -> None:
        """Delete the recorded patches whose first new serial number is smaller.

        Raise Full if the disk has no room.
        """
        self._state.patches.forget(before)

    def get(self, item_id: str | int) -> Item:
        """Return one item; raise NotFound if there is none with this id."""
        state = self._state
        with state.reading():
            view, rows = state.find(as_ids([item_id]))
            return self._items(view, rows)[0]

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

        `count` is called with the bytes of parts of the page, about as they are in JSON, before it
        is put together. It and `checkpoint` may raise to give up.
        """
        with self._state.reading():
            view, rows = self._matching(where, checkpoint)
            page = np.argsort(view.serials(rows), kind="stable")[offset : offset + limit]
            return self._items(view, rows[page], count), len(rows)

    def count(self, where: Filter, checkpoint: Checkpoint = lambda: None) -> int:
        """Return how many items match a filter. `checkpoint` may raise to give up."""
        with self._state.reading():
            return len(self._matching(where, checkpoint)[1])

    def _matching(
        self, where: Filter | None, checkpoint: Checkpoint
    ) -> tuple[View, NDArray[np.int64]]:
        if where is None:
            return self._state.live()
        view = self._state.rows.view()
        return view, view.live_among(evaluate.mask(where, view, self._state.columns, checkpoint))

    def _items(
        self, view: View, rows: NDArray[np.int64], count: Count = lambda n: None
    ) -> list[Item]:
        count(2 * code_size(self.n_bits) * len(rows))
        described = describe(Stored(view, self._state.record), rows, count)
        return [
            Item(item_id, code.tobytes(), label, payload)
            for code, (item_id, label, payload) in zip(view.codes(rows), described, strict=True)
        ]

    def codes(self, ids: Iterable[str | int]) -> Codes:
        """Return the codes of items, (len(ids), size); raise NotFound if one is missing."""
        self._state.check_present()
        view, rows = self._state.find(as_ids(ids))
        return view.codes(rows)

    def sample_codes(self, limit: int, seed: int = 0) -> CodeSample:
        """Return the codes of at most `limit` items, chosen at random, and the number of all items.

        They come in random order: the first of them are a smaller random sample. The same items and
        seed give the same sample.
        """
        view, rows = self._state.live()
        chosen = np.random.default_rng(seed).choice(len(rows), min(limit, len(rows)), replace=False)
        return CodeSample(view.codes(rows[chosen]), len(rows))

    def moment(self) -> Moment:
        """Return the items of this moment, to measure samples of them."""
        state = self._state

        def descriptors(view: View, rows: NDArray[np.int64]) -> NDArray[Any]:
            state.check_keeps_descriptors()
            return state.descriptors(view, rows)

        return Moment(*state.live(), descriptors)

    def neighbour_ranks(
        self, n_queries: int, k: int, checkpoint: Checkpoint = lambda: None
    ) -> NDArray[np.int64]:
        """Return at which depth of a search by Hamming distance items have their true neighbours.

        See `index.search.depth.neighbour_ranks`. Raise InvalidItems if no descriptors are kept.
        """
        self._state.check_keeps_descriptors()
        return neighbour_ranks(self.moment(), self.n_bits, n_queries, k, checkpoint)

    def has_labels(self) -> bool:
        """Return whether any item has a label."""
        view, rows = self._state.live()
        return bool((view.labels(rows) >= 0).any())

    def descriptors(self, ids: Iterable[str | int]) -> NDArray[Any]:
        """Return the descriptors of items, (len(ids), d).

        Raises
        ------
        NotFound
            An item is missing.
        InvalidItems
            The collection keeps no descriptors.
        """
        state = self._state
        state.check_keeps_descriptors()
        with state.reading():
            return state.descriptors(*state.find(as_ids(ids)))

    def descriptor_batches(self) -> Iterator[DescriptorBatch]:
        """Yield ids, labels and descriptors of all current items, some items at a time.

        Raises
        ------
        InvalidItems
            The collection keeps no descriptors.
        """
        state = self._state
        state.check_keeps_descriptors()
        view, rows = state.live()
        for first in range(0, len(rows), _CHUNK):
            part = rows[first : first + _CHUNK]
            yield DescriptorBatch(
                view.names(part), view.labels(part), state.descriptors(view, part)
            )

    def code_batches(
        self, where: Filter | None = None, checkpoint: Checkpoint = lambda: None
    ) -> Iterator[CodeBatch]:
        """Yield ids and codes of all current items that match a filter, some items at a time.

        `checkpoint` is called while the filter is evaluated and may raise to give up.
        """
        with self._state.reading():
            view, rows = self._matching(where, checkpoint)
        for first in range(0, len(rows), _CHUNK):
            part = rows[first : first + _CHUNK]
            yield CodeBatch(view.names(part), view.codes(part))

    def item_batches(self, size: int) -> Iterator[ItemBatch]:
        """Yield all of the current items, at most `size` at a time, in the order of insertion."""
        state = self._state
        view, rows = state.live()
        rows = rows[np.argsort(view.serials(rows), kind="stable")]
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            yield ItemBatch(
                view.names(part),
                view.codes(part),
                view.labels(part),
                state.payload_texts(view, part),
                state.descriptors(view, part) if self.keep_descriptors else None,
                None if self.metric is None else view.factors(part),
            )

    def is_ready(self, where: Filter) -> bool:
        """Return whether a filter takes little time: it has to read few payloads, or none."""
        return evaluate.is_ready(where, self._state.rows.view(), self._state.columns)

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

        They are nearest by the Hamming distance of the codes, or by the estimated distance.

        Parameters
        ----------
        codes : (q, ceil(n_bits / 8)) uint8
            The codes of the queries.
        options : SearchOptions
        descriptors : (q, d), optional
            Of the queries, to rerank by descriptors.
        projections : (q, n_bits), optional
            Of the queries, to rerank by bits: what the encoder thresholds at zero.
        terms : Terms, optional
            Of the queries, in a collection that ranks by estimates.
        epsilon : float, optional
            With `confidence`: what errors of estimates, as multiples of those that the factors
            state, exceed to one side with the probability 1 - confidence.
        checkpoint : callable
            Called again and again during the search, in any thread. It may raise to give up.
        count : callable
            Called with the bytes of parts of the result, about as they are in JSON, before it is
            put together. It may raise to give up.

        Raises
        ------
        InvalidItems
        NotFound
        """
        state = self._state
        check_codes(codes, len(codes), state.n_bits)
        with state.reading():
            view = state.rows.view()
            mask = None
            if options.where is not None:
                mask = evaluate.mask(options.where, view, state.columns, checkpoint)
            given = Given(descriptors, terms, epsilon)
            answers, scores = nearest(state, view, codes, options, given, mask, checkpoint)
            items = Stored(view, state.record)
            if options.rerank is not None:
                answers, scores = reranked(
                    state, items, answers, options, descriptors, projections, checkpoint
                )
            return as_found(items, answers, scores, codes, options, count)
