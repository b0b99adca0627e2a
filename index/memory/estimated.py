"""A scan of codes with factors, by Faiss, which scores each item for a query."""

from __future__ import annotations

from os import cpu_count
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes, Words, code_size, to_codes
from index.memory.factors import SHIFT, factors_of, to_rows

# Faiss numbers the bits of a byte from the lowest, codes from the highest.
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1])
# Rows whose bits are reversed at once, which bounds the memory.
_BLOCK = 1 << 16
THREADS = max(1, min(cpu_count() or 1, faiss.omp_get_max_threads()))
# Bits to which Faiss rounds a coordinate of a query. Those of the encoder are rounded already.
_QUERY_BITS = 8
# Neighbours that are searched beyond those wanted, to see whether there are more at the last place.
_MORE = 16


class Scan:
    """Rows in the memory of a Faiss index, which scores all of them for a query.

    A score is scale · <b, u> + offset: the larger, the nearer.
    """

    def __init__(self, words: Words, n_bits: int) -> None:
        n, width = words.shape
        # Faiss rounds a query to steps between its smallest and largest number, so that it needs
        # two.
        self._d, self._size = max(n_bits, 2), code_size(n_bits)
        self.n_bits = n_bits
        # The type stubs of Faiss leave out what its Python wrapper adds.
        index: Any = faiss.IndexRaBitQ(self._d, faiss.METRIC_INNER_PRODUCT)
        self._index = index
        # The third number and the padding of words follow what Faiss reads.
        index.rabitq.code_size = index.code_size = 8 * width
        index.qb = _QUERY_BITS
        faiss.copy_array_to_vector(np.zeros(self._d, np.float32), index.center)
        index.is_trained, index.ntotal = True, n
        self.words: Words = np.empty((0, width), np.uint64)
        """The rows, with the bits of their codes in the order of Faiss."""
        if n:
            index.codes.resize(8 * width * n)
            memory = faiss.rev_swig_ptr(index.codes.data(), 8 * width * n)
            self.words = memory.view(np.uint64).reshape(n, width)
        self.largest_scale = self.largest_error = 0.0
        for first in range(0, n, _BLOCK):
            part = slice(first, first + _BLOCK)
            self.words[part] = self._reversed(words[part])
            scale, _, error = factors_of(words[part], n_bits).max(axis=0).tolist()
            self.largest_scale = max(self.largest_scale, scale)
            self.largest_error = max(self.largest_error, error)

    @classmethod
    def of(cls, codes: Codes, factors: NDArray[np.float32], n_bits: int) -> Scan:
        """Return a scan of packed codes with their factors, (n, 3)."""
        return cls(to_rows(codes, factors), n_bits)

    def __len__(self) -> int:
        return len(self.words)

    def rows(self, places: NDArray[np.integer]) -> Words:
        """Return rows as they were given."""
        return self._reversed(self.words[places])

    def _reversed(self, words: Words) -> Words:
        words = words.copy()
        codes = to_codes(words, self._size)
        codes[...] = _REVERSED[codes]
        return words

    def nearest(
        self, vectors: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Return for each query the k rows of the highest scores, and all that tie with the last.

        Parameters
        ----------
        vectors : (q, n_bits) float32
            u of the queries.
        k : int
        allowed : (n,) bool, optional
            Rows that may be found; None for all.

        Returns
        -------
        list of (rows, scores)
            In no order.
        """
        wanted = min(len(self), k + _MORE)
        if not wanted:
            return [(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in vectors]
        queries, parameters = self._queries(vectors), _parameters(allowed)
        # Faiss gives each thread whole queries, and threads without one only wait.
        faiss.omp_set_num_threads(min(THREADS, len(vectors)))
        scores, rows = self._index.search(queries, wanted, params=parameters)
        found = []
        for query in range(len(vectors)):
            is_found = rows[query] >= 0
            row, score = rows[query][is_found], scores[query][is_found]
            if len(row) > k and score[-1] == score[k - 1] and wanted < len(self):
                below = np.nextafter(score[k - 1], np.float32(-np.inf))
                row, score = self.above(vectors[query], float(below), allowed)
            found.append((row.astype(np.int64), score))
        return found

    def above(
        self, vector: NDArray[np.float32], least: float, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rows, in ascending order, whose score is above `least`, and their scores."""
        if not len(self):
            return np.empty(0, np.int64), np.empty(0, np.float32)
        faiss.omp_set_num_threads(1)
        _, scores, rows = self._index.range_search(
            self._queries(vector[None]), least, params=_parameters(allowed)
        )
        order = np.argsort(rows)
        return rows[order].astype(np.int64), scores[order]

    def _queries(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        queries = np.zeros((len(vectors), self._d), np.float32)
        # Faiss divides the inner products by √d.
        queries[:, : self.n_bits] = vectors * (np.float32(np.sqrt(self._d)) / SHIFT)
        # Faiss divides by the difference of the largest and the smallest number.
        same = np.flatnonzero(queries.min(axis=1) == queries.max(axis=1))
        queries[same, 0] += np.maximum(np.abs(queries[same, 0]) * 1e-6, 1e-30)
        return queries


def _parameters(allowed: NDArray[np.bool_] | None) -> Any:
    api: Any = faiss
    if allowed is None:
        return api.RaBitQSearchParameters(qb=_QUERY_BITS)
    selector = api.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    return api.RaBitQSearchParameters(qb=_QUERY_BITS, sel=selector)
