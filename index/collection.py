"""A collection: items with codes, labels and payloads, on disk and searchable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import Codes, code_size, to_words
from index.callbacks import Checkpoint, Count
from index.errors import InvalidItems
from index.filters.filter import Filter
from index.memory.view import View
from index.search.exact import search
from index.search.rerank import Scored, by_bits, by_descriptors
from index.search.results import as_found, describe
from index.state import State
from index.types import Answer, CodeSample, DescriptorBatch, Found, Item, SearchOptions
from index.validation import Payload, as_half, as_label_column, as_texts, check_codes, check_ids

# Items per batch where all of them are read.
_CHUNK = 4096


class Collection:
    """Items with string ids, searched by the Hamming distance of their codes.

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
        """Whether items come with their descriptors, which are kept as float16."""
        return self._state.keep_descriptors

    @property
    def dimension(self) -> int | None:
        """The dimension of the descriptors that are kept; None before the first."""
        return self._state.dimension

    def upsert(
        self,
        ids: Sequence[str],
        codes: Codes,
        labels: Sequence[int | None] | NDArray[np.integer] | None = None,
        payloads: Sequence[Payload | None] | None = None,
        descriptors: ArrayLike | None = None,
    ) -> None:
        """Insert items, or replace those that have these ids: all of them or, on an error, none.

        Parameters
        ----------
        ids : (n,) str
            1 to 256 characters each, without duplicates.
        codes : (n, ceil(n_bits / 8)) uint8
            Packed, with clear padding bits.
        labels : (n,) int, optional
            From 0 to 2**63 - 1; None or -1 for an item without one. A replaced item loses its
            label.
        payloads : (n,) mappings that JSON can hold, optional
            At most 64 KiB of UTF-8 each, as compact JSON. A replaced item loses its payload.
        descriptors : (n, d), where the collection keeps them and only there
            Stored as float16; every batch has the d of the first.

        Raises
        ------
        InvalidItems
        NotFound
        Full
            The disk has no room.
        """
        self._upsert(ids, codes, labels, as_texts(payloads, len(ids)), descriptors)

    def _upsert(
        self,
        ids: Sequence[str],
        codes: Codes,
        labels: Sequence[int | None] | NDArray[np.integer] | None,
        texts: Sequence[str | None] | None,
        descriptors: ArrayLike | None,
    ) -> None:
        state = self._state
        check_ids(ids)
        check_codes(codes, len(ids), state.n_bits)
        column = as_label_column(labels, len(ids))
        if state.keep_descriptors != (descriptors is not None):
            raise InvalidItems(
                f"collection {state.name!r} "
                + (
                    "keeps descriptors: give one for each item"
                    if state.keep_descriptors
                    else "keeps no descriptors: make it with keep_descriptors to give some"
                )
            )
        half = None if descriptors is None else as_half(descriptors, len(ids), state.dimension)
        state.put(ids, to_words(codes), column, texts, half)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete the items with these ids and return how many there were. Ignore unknown ids."""
        return self._state.delete(list(dict.fromkeys(ids)))

    def get(self, item_id: str) -> Item:
        """Return one item; raise NotFound if there is none with this id."""
        state = self._state
        with state.reading():
            view, rows = state.find([item_id])
            return self._items(view, rows)[0]

    def items(
        self, offset: int, limit: int, count: Count = lambda n: None
    ) -> tuple[list[Item], int]:
        """Return a page of the items, in the order of their insertion, and the number of all.

        `count` is called with the bytes of parts of the page, about as they are in JSON, before it
        is put together. It may raise to give up.
        """
        state = self._state
        view, rows = state.live()
        page = np.argsort(view.serials(rows), kind="stable")[offset : offset + limit]
        with state.reading():
            return self._items(view, rows[page], count), len(rows)

    def _items(
        self, view: View, rows: NDArray[np.int64], count: Count = lambda n: None
    ) -> list[Item]:
        count(2 * code_size(self.n_bits) * len(rows))
        described = describe(view, rows, self._state.record, count)
        return [
            Item(item_id, code.tobytes(), label, payload)
            for code, (item_id, label, payload) in zip(view.codes(rows), described, strict=True)
        ]

    def codes(self, ids: Sequence[str]) -> Codes:
        """Return the codes of items, (len(ids), size); raise NotFound if one is missing."""
        self._state.check_present()
        view, rows = self._state.find(ids)
        return view.codes(rows)

    def sample_codes(self, limit: int, seed: int = 0) -> CodeSample:
        """Return the codes of at most `limit` items, chosen at random, and the number of all items.

        They come in random order: the first of them are a smaller random sample. The same items and
        seed give the same sample.
        """
        view, rows = self._state.live()
        chosen = np.random.default_rng(seed).choice(len(rows), min(limit, len(rows)), replace=False)
        return CodeSample(view.codes(rows[chosen]), len(rows))

    def has_labels(self) -> bool:
        """Return whether any item has a label."""
        view, rows = self._state.live()
        return bool((view.labels(rows) >= 0).any())

    def descriptors(self, ids: Sequence[str]) -> NDArray[np.float16]:
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
            return state.descriptors(*state.find(ids))

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

    def is_ready(self, where: Filter) -> bool:
        """Return whether a filter takes little time: it has to read few payloads, or none."""
        return where.is_ready(self._state.rows.view(), self._state.columns)

    def search(
        self,
        codes: Codes,
        options: SearchOptions,
        *,
        descriptors: ArrayLike | None = None,
        projections: ArrayLike | None = None,
        checkpoint: Checkpoint = lambda: None,
        count: Count = lambda n: None,
    ) -> list[Found]:
        """Return the nearest items of each query code: exact, with ties in the order of the ids.

        Parameters
        ----------
        codes : (q, ceil(n_bits / 8)) uint8
            The codes of the queries.
        options : SearchOptions
        descriptors : (q, d), optional
            Of the queries, to rerank by descriptors.
        projections : (q, n_bits), optional
            Of the queries, to rerank by bits: what the encoder thresholds at zero.
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
                mask = options.where.mask(view, state.columns, checkpoint)
            words = to_words(codes)
            answers = search(
                view,
                words,
                options.depth,
                options.radius,
                mask,
                checkpoint,
                count_within=options.count_within,
            )
            scores: list[NDArray[np.float64]] | None = None
            if options.rerank is not None:
                answers, scores = self._rerank(
                    view, answers, options, descriptors, projections, checkpoint
                )
            return as_found(view, answers, scores, codes, options, state.record, count)

    def _rerank(
        self,
        view: View,
        answers: list[Answer],
        options: SearchOptions,
        descriptors: ArrayLike | None,
        projections: ArrayLike | None,
        checkpoint: Checkpoint,
    ) -> Scored:
        state = self._state
        by = options.rerank_distance(state.keep_descriptors)
        if by == "descriptors":
            state.check_keeps_descriptors()
            if descriptors is None:
                raise InvalidItems("reranking by descriptors takes the descriptors of the queries")
            return by_descriptors(
                view, answers, descriptors, state.dimension, state.record, checkpoint
            )
        if projections is None:
            raise InvalidItems("reranking by bits takes the projections of the queries")
        return by_bits(view, answers, projections, state.n_bits, checkpoint)
