"""Rows of collections that rank by estimated distances: a code, followed by its factors.

A row is a packed code and three float32. With the estimate of an item being
constant - (scale · <b, u> + offset), they are -2 · offset, 2¹⁶ · scale, and the error. Faiss's
`IndexRaBitQ` keeps two numbers behind a code, in the places and the form of the first two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes, Words, code_size, to_codes, to_words

SHIFT = np.float32(1 << 16)
"""By how much scales are larger, and the queries that Faiss takes smaller, than they are.

Faiss adds the squared length of a query to each score and subtracts it again, which would cost
digits. The product with a power of two is exact.
"""
FACTORS = 3
"""Numbers per item: scale, offset and error."""


def row_size(n_bits: int, is_estimated: bool) -> int:
    """Return the bytes of a row: of a code, and of its factors where distances are estimated."""
    return code_size(n_bits) + is_estimated * 4 * FACTORS


def to_rows(codes: Codes, factors: NDArray[np.float32]) -> Words:
    """Return packed codes and their factors, (n, 3), as rows of words."""
    stored = np.empty((len(codes), FACTORS), "<f4")
    stored[:, 0] = -2 * factors[:, 1]
    stored[:, 1] = factors[:, 0] * SHIFT
    stored[:, 2] = factors[:, 2]
    return to_words(np.concatenate([codes, stored.view(np.uint8)], axis=1))


def factors_of(words: Words, n_bits: int) -> NDArray[np.float64]:
    """Return scale, offset and error of rows, (n, 3)."""
    size = code_size(n_bits)
    stored = np.ascontiguousarray(to_codes(words, size + 4 * FACTORS)[:, size:])
    f0, scale, error = stored.view("<f4").astype(np.float64).T
    return np.stack([scale / SHIFT, f0 / -2, error], axis=1)
