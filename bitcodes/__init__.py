"""Packed binary codes: the format that `hashing` writes and `index` searches.

A code of `n_bits` bits takes `code_size(n_bits)` bytes, big-endian as `numpy.packbits` writes them:
bit 0 is the highest bit of byte 0, and the last byte is padded with zeros. This module depends on
numpy alone, so that both packages can share it without knowing each other.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
"""Packed codes, (n, code_size(n_bits))."""

Words = NDArray[np.uint64]
"""The same codes as 64-bit words, (n, ceil(n_bits / 64)), the last word padded with zeros.

A Hamming distance between two words is one XOR and one population count.
"""

# Rows per step in `distances_to`: the temporary arrays then stay in the cache.
_BLOCK = 1 << 15


def code_size(n_bits: int) -> int:
    """Return the number of bytes in a packed code of `n_bits` bits."""
    return (n_bits + 7) // 8


def word_count(n_bits: int) -> int:
    """Return the number of 64-bit words that hold a code of `n_bits` bits."""
    return (n_bits + 63) // 64


def pack(z: NDArray[np.floating]) -> Codes:
    """Convert real-valued projections to packed codes: a bit is set where z > 0.

    Parameters
    ----------
    z : (n, n_bits) float
        Zero and NaN give an unset bit.

    Returns
    -------
    (n, code_size(n_bits)) uint8
    """
    bits = z > 0
    if bits.shape[1] % 8 == 0:
        # The result is the same, and numpy packs one long row three times as fast as many short
        # ones.
        return np.packbits(bits).reshape(len(bits), code_size(bits.shape[1]))
    return np.packbits(bits, axis=1)


def from_hex(texts: Sequence[str], n_bits: int) -> Codes:
    """Convert codes in hex, as JSON holds them, to packed codes.

    Parameters
    ----------
    texts : sequence of str
        2 * code_size(n_bits) hexadecimal digits each, in either case.
    n_bits : int
        The code length. Bits of the last byte beyond it are returned as they are given.

    Returns
    -------
    (n, code_size(n_bits)) uint8

    Raises
    ------
    ValueError
        A text is not such a code; the message names the first.
    """
    size = code_size(n_bits)
    whole = "".join(texts)
    if set(map(len, texts)) <= {2 * size}:
        try:
            data = bytes.fromhex(whole)
        except ValueError:
            data = b""
        # `fromhex` skips spaces.
        if 2 * len(data) == len(whole):
            return np.frombuffer(data, np.uint8).reshape(len(texts), size)
    place = next(i for i, text in enumerate(texts) if not _is_hex(text, size))
    raise ValueError(
        f"expected codes of {n_bits} bits as {2 * size} hexadecimal digits each; code {place} is "
        f"{texts[place]!r:.80}, of {len(texts[place])} characters"
    )


def _is_hex(text: str, size: int) -> bool:
    return len(text) == 2 * size and set(text) <= set(string.hexdigits)


def unpack(codes: Codes, n_bits: int) -> NDArray[np.uint8]:
    """Convert packed codes, (n, code_size(n_bits)), to bits: (n, n_bits) uint8 of 0 and 1."""
    return np.unpackbits(codes, axis=1, count=n_bits)


def to_words(codes: Codes) -> Words:
    """Return a copy of packed codes as 64-bit words."""
    n, size = codes.shape
    words = np.zeros((n, word_count(8 * size)), np.uint64)
    words.view(np.uint8).reshape(n, 8 * words.shape[1])[:, :size] = codes
    return words


def to_codes(words: Words, size: int) -> Codes:
    """Return words as packed codes of `size` bytes: a view where numpy can make one."""
    return words.view(np.uint8).reshape(len(words), 8 * words.shape[1])[:, :size]


def distance_type(n_words: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest type that holds every Hamming distance of codes of `n_words` words."""
    return np.min_scalar_type(64 * n_words)


def bit_places(n_bits: int) -> NDArray[np.uint64]:
    """Return the place of each bit of a code within its words, from the lowest bit of word 0."""
    bit = np.arange(n_bits, dtype=np.uint64)
    # The first byte is the low end of a word; the first bit is the high end of a byte.
    return bit // 8 * 8 + (7 - bit % 8)


def hamming(a: Codes, b: Codes) -> NDArray[np.unsignedinteger]:
    """Return the Hamming distances between two sets of packed codes, all against all.

    Parameters
    ----------
    a : (n, size) uint8
    b : (m, size) uint8
        The padding is zero, so it adds nothing to a distance.

    Returns
    -------
    (n, m) uint16, or uint32 for codes of more than 8,184 bytes
        Number of bits that differ. The call needs about 11·n·m bytes of memory: pass the queries
        in blocks.

    Raises
    ------
    ValueError
        The codes of `a` and `b` differ in size.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"codes of {a.shape[1]} bytes cannot be compared with {b.shape[1]} bytes")
    a_words, b_words = to_words(a), to_words(b)
    kind = np.result_type(np.uint16, distance_type(a_words.shape[1]))
    distances = np.zeros((len(a), len(b)), kind)
    for word in range(a_words.shape[1]):
        distances += np.bitwise_count(a_words[:, word, None] ^ b_words[None, :, word])
    return distances


def distances_to(query: Words, words: Words) -> NDArray[np.unsignedinteger]:
    """Return the Hamming distances of one query, (w,), to each of many codes, (n, w)."""
    n, width = words.shape
    total = np.empty(n, distance_type(width))
    for start in range(0, n, _BLOCK):
        part = words[start : start + _BLOCK]
        out = total[start : start + _BLOCK]
        np.bitwise_count(part[:, 0] ^ query[0], out=out)
        for word in range(1, width):
            out += np.bitwise_count(part[:, word] ^ query[word])
    return total


def paired_distances(a: Codes | Words, b: Codes | Words) -> NDArray[np.int64]:
    """Return the Hamming distance of each row of a to the same row of b: both codes, or words."""
    return np.asarray(np.bitwise_count(a ^ b).sum(axis=1, dtype=np.int64))


def asymmetric_distances(
    projections: NDArray[np.floating], bits: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the asymmetric distances of real-valued queries to binary codes.

    The distance of a projection z to a code is the sum of |z_i| over the bits i that differ from
    z_i > 0. It orders codes as the Euclidean distance of z to the code as ±1 does (Gordo et al.,
    "Asymmetric Distances for Binary Embeddings", PAMI 2014, with thresholds at zero).

    Parameters
    ----------
    projections : (q, n_bits) float
    bits : (n, n_bits) float64
        The codes as 0.0 and 1.0: unpack them once, not once per block of queries.

    Returns
    -------
    (q, n) float64
        At least zero, apart from rounding.
    """
    # Σ |z_i| over the bits that differ = Σ max(z_i, 0) − Σ b_i z_i: one matrix product.
    Z = np.asarray(projections, np.float64)
    distances: NDArray[np.float64] = np.maximum(Z, 0).sum(axis=1, keepdims=True) - Z @ bits.T
    return distances
