"""A segment: items as arrays that never change, in the order of ids, with tables of codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words
from index.callbacks import Checkpoint
from index.memory import cost_model
from index.memory.batch import Batch
from index.memory.estimated import Scan
from index.memory.ids import Ids, gather, narrow, sort_order
from index.memory.multi_index import Tables

# If at most this share of the codes is distinct, each is stored and searched once.
_DISTINCT = 0.7


class Segment:
    """Items in rows, ascending by id.

    Attributes
    ----------
    ids : Ids
    codes : (c, words) uint64
        One per row, or, where many items share a code, each distinct code once. Where distances
        are estimated, one per row, as `scan` holds them.
    scan : Scan or None
        What ranks the rows where distances are estimated.
    labels, serials : (n,) integers
    """

    def __init__(self, batch: Batch, n_bits: int, *, is_estimated: bool = False) -> None:
        self.n_bits = n_bits
        self._tables: tuple[cost_model.Model, Tables | None] | None = None
        data, lengths, words = batch.data, batch.lengths, batch.words
        labels, serials = batch.labels, batch.serials
        order = sort_order(data, lengths)
        if order is None:
            self.ids = Ids(data, lengths)
        else:
            starts = np.cumsum(lengths) - lengths
            self.ids = Ids(gather(data, starts[order], lengths[order]), lengths[order])
            words, labels, serials = words[order], labels[order], serials[order]
        self.labels, self.serials = narrow(labels), narrow(serials)
        self.codes = words
        # Where codes are shared: rows grouped by code, the start of each group, the code of a row.
        self._members: NDArray[np.uint32] | None = None
        self._starts: NDArray[np.uint32] | None = None
        self._code_of: NDArray[np.uint32] | None = None
        self.scan: Scan | None = None
        if is_estimated:
            self.scan = Scan(words, n_bits)
            self.codes = self.scan.words
        else:
            self._share_codes(words)

    def _share_codes(self, words: Words) -> None:
        n = len(words)
        if n < 2:
            return
        one_word = words.shape[1] == 1
        order = np.argsort(words[:, 0], kind="stable") if one_word else np.lexsort(words.T)
        new = np.ones(n, bool)
        new[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
        starts = np.flatnonzero(new)
        if len(starts) > _DISTINCT * n:
            return
        self.codes = words[order[starts]]
        self._members = order.astype(np.uint32)
        self._starts = np.append(starts, n).astype(np.uint32)
        code_of = np.empty(n, np.uint32)
        code_of[order] = np.cumsum(new) - 1
        self._code_of = code_of

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Memory that the segment occupies."""
        arrays = (self.codes, self.labels, self.serials)
        shared = (self._members, self._starts, self._code_of)
        tables = self._tables[1] if self._tables else None
        return (
            self.ids.nbytes
            + sum(array.nbytes for array in (*arrays, *shared) if array is not None)
            + (tables.nbytes if tables else 0)
        )

    def prepare(self, checkpoint: Checkpoint = lambda: None) -> None:
        """Fit the cost model and build the tables that it chooses; until then searches are scans.

        `checkpoint` is called between the steps and may raise to give up.
        """
        if self.scan is not None:
            return
        model = cost_model.fit(self.codes, self.counts(None), self.n_bits)
        checkpoint()
        tables = Tables(self.codes, model.cut, checkpoint) if model.cut else None
        self._tables = (model, tables)

    @property
    def is_prepared(self) -> bool:
        """Whether `prepare` has been called, or has nothing to do."""
        return self._tables is not None or self.scan is not None

    @property
    def tables(self) -> tuple[cost_model.Model, Tables] | None:
        """The cost model and the tables; None where there are no tables."""
        if self._tables is None or self._tables[1] is None:
            return None
        return self._tables[0], self._tables[1]

    @property
    def shares_codes(self) -> bool:
        """Whether `codes` holds each distinct code once."""
        return self._members is not None

    def words(self, rows: NDArray[np.integer]) -> Words:
        """Return the codes of rows."""
        if self.scan is not None:
            return self.scan.rows(rows)
        words: Words = self.codes[rows if self._code_of is None else self._code_of[rows]]
        return words

    def counts(self, allowed: NDArray[np.bool_] | None) -> NDArray[Any]:
        """Return how many of the allowed rows, None for all, have each of `codes`.

        Where no code is shared, the counts are booleans.
        """
        if self._starts is None or self._code_of is None:
            return np.ones(len(self), bool) if allowed is None else allowed
        if allowed is None:
            starts = self._starts.astype(np.int64)
            return starts[1:] - starts[:-1]
        return np.bincount(self._code_of[allowed], minlength=len(self.codes))

    def used(self, counts: NDArray[Any] | None) -> tuple[Words, NDArray[np.int64] | None]:
        """Return the codes with a non-zero count, and their places in `codes`.

        Without counts return all codes, and None.
        """
        if counts is None:
            return self.codes, None
        places = np.flatnonzero(counts)
        return self.codes[places], places

    def members(
        self, codes: NDArray[np.int64], limit: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows that have some codes.

        Parameters
        ----------
        codes : (m,)
            Places in `self.codes`.
        limit : int, optional
            Return only the first `limit` rows of each code.

        Returns
        -------
        place : (r,)
            For each row, the place in the argument `codes` of its code.
        row : (r,)
        """
        if self._members is None or self._starts is None:
            return np.arange(len(codes)), codes
        starts = self._starts[codes].astype(np.int64)
        sizes = self._starts[codes + 1].astype(np.int64) - starts
        if limit is not None:
            sizes = np.minimum(sizes, limit)
        place = np.repeat(np.arange(len(codes)), sizes)
        shift = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
        return place, self._members[np.arange(len(place)) + shift].astype(np.int64)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Return ascending rows as columns."""
        data, lengths = self.ids.part(rows)
        labels, serials = self.labels[rows].astype(np.int64), self.serials[rows].astype(np.int64)
        return Batch(data, lengths, self.words(rows), labels, serials)
