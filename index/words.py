"""Packed codes as 64-bit words, on which a Hamming distance is an XOR and a count of bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
"""Packed codes, (n, ceil(n_bits / 8)); bit 0 is the highest bit of the first byte."""

Words = NDArray[np.uint64]
"""The same codes, (n, ceil(n_bits / 64)), the last word filled with zeros."""

_BLOCK = 1 << 15


def to_words(codes: Codes) -> Words:
    """Codes as words; a copy."""
    n, size = codes.shape
    words = np.zeros((n, -(-size // 8)), np.uint64)
    words.view(np.uint8).reshape(n, 8 * words.shape[1])[:, :size] = codes
    return words


def to_codes(words: Words, size: int) -> Codes:
    """Words as packed codes of `size` bytes, without a copy where that can be."""
    return words.view(np.uint8).reshape(len(words), 8 * words.shape[1])[:, :size]


def bit_places(n_bits: int) -> NDArray[np.uint64]:
    """Where each bit of a code lies in its words, counted from the lowest bit of the first."""
    bit = np.arange(n_bits, dtype=np.uint64)
    # Bytes lie in a word from its low end, the bits of a byte from its high end.
    return bit // 8 * 8 + (7 - bit % 8)


def distances(words: Words, query: Words) -> NDArray[np.unsignedinteger]:
    """Hamming distances of one query, (words,), to all codes, (n, words)."""
    n, width = words.shape
    total: NDArray[Any] = np.empty(n, np.uint8 if 64 * width < 256 else np.uint16)
    for start in range(0, n, _BLOCK):
        part = words[start : start + _BLOCK]
        out = total[start : start + _BLOCK]
        np.bitwise_count(part[:, 0] ^ query[0], out=out)
        for word in range(1, width):
            out += np.bitwise_count(part[:, word] ^ query[word])
    return total
