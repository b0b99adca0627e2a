"""Faiss's own compressed indexes, to compare the methods with."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from app.benchmark.neighbours.protocol import Task
from app.benchmark.neighbours.scan import one_thread
from app.benchmark.rank import unit
from app.benchmark.rows import FAISS_PQ, FAISS_RABITQ
from hashing import InvalidInput

# Bytes that Faiss's RaBitQ keeps behind the bits.
_FACTORS = 8
# Product quantization: bits of a part, and how its centroids are learned. Training with Faiss's 25
# iterations of 256 rows per centroid takes ten times as long.
_PQ_BITS = 8
_ROWS_PER_CENTROID = 64
_ITERATIONS = 10
# Rows that are added at a time.
_BLOCK = 1 << 14


class FaissIndex:
    """An index of Faiss with as many bytes per item as `faiss-rabitq` has with these bits.

    Parameters
    ----------
    method : str
        `faiss-rabitq`: `IndexRaBitQ` after a random rotation to `n_bits` dimensions.
        `faiss-sq`: `IndexScalarQuantizer` of the first principal components, 4 bits for each; 8
        bits for each if all of them take less space than that.
        `faiss-pq`: `IndexPQ` of the principal components, a byte for each part.
    n_bits : int
    task : Task

    Raises
    ------
    InvalidInput
        The database is too small to train the index.
    """

    def __init__(self, method: str, n_bits: int, task: Task) -> None:
        self._cosine = task.distance == "cosine"
        self._database = task.database
        self._index = _index(method, n_bits, task.database.shape[1], task.seed)
        # Items whose codes are equal are found in the order in which they were added.
        self._order = np.random.default_rng(task.seed).permutation(len(task.database))

    def fit(self) -> None:
        """Train the index on the database."""
        try:
            # With more threads, Faiss's small matrix products are no faster.
            with one_thread():
                self._index.train(self._prepared(self._database))
        except RuntimeError as error:
            reason = str(error).rpartition("Error: ")[2]
            raise InvalidInput(f"Faiss cannot train this index: {reason}") from None

    def add(self) -> None:
        """Add the database."""
        for first in range(0, len(self._order), _BLOCK):
            rows = self._order[first : first + _BLOCK]
            self._index.add(self._prepared(self._database[rows]))

    def search(self, queries: NDArray[np.float32], k: int) -> NDArray[np.intp]:
        """Return the positions in the database of the first k items, (q, k)."""
        k = min(k, len(self._order))
        _, found = self._index.search(self._prepared(queries), k)
        positions: NDArray[np.intp] = self._order[found]
        return positions

    @property
    def bytes_per_item(self) -> int:
        """Bytes that the index keeps of an item."""
        return int(self._index.sa_code_size())

    def _prepared(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors whose Euclidean distances rank as the distance of the task does."""
        return np.ascontiguousarray(unit(X) if self._cosine else X, np.float32)


def _index(method: str, n_bits: int, d: int, seed: int) -> Any:
    size = (n_bits + 7) // 8 + _FACTORS
    index: Any
    if method == FAISS_RABITQ:
        index = faiss.IndexRaBitQ(n_bits)
        index.qb = 8
        return faiss.IndexPreTransform(_rotation(d, n_bits, seed), index)
    if method == FAISS_PQ:
        n_parts = min(size, d)
        dimension = d // n_parts * n_parts
        index = faiss.IndexPQ(dimension, n_parts, _PQ_BITS)
        index.pq.cp.max_points_per_centroid = _ROWS_PER_CENTROID
        index.pq.cp.niter = _ITERATIONS
        index.pq.cp.seed = seed
        return faiss.IndexPreTransform(_components(d, dimension), index)
    bits = 4 if size < d else 8
    dimension = min(d, size * 8 // bits)
    quantizer = faiss.ScalarQuantizer
    index = faiss.IndexScalarQuantizer(
        dimension, quantizer.QT_4bit if bits == 4 else quantizer.QT_8bit
    )
    return faiss.IndexPreTransform(_components(d, dimension), index)


def _rotation(d: int, dimension: int, seed: int) -> Any:
    rotation: Any = faiss.RandomRotationMatrix(d, dimension)
    rotation.init(seed)
    return rotation


def _components(d: int, dimension: int) -> Any:
    """Return the first principal components, rotated so that each varies as much as the others."""
    return faiss.PCAMatrix(d, dimension, 0, True)
