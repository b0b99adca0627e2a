"""Codes: real projections to bits, bits to bytes, and the Hamming distance between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]


def code_size(n_bits: int) -> int:
    """Bytes that one code of `n_bits` takes: the last byte is zero-padded."""
    return (n_bits + 7) // 8


def pack(z: NDArray[np.floating]) -> Codes:
    """Projections to packed codes by the one bit rule: a bit is set where z > 0.

    Parameters
    ----------
    z : (n, n_bits) float
        Real-valued projections. Zero and NaN give an unset bit.

    Returns
    -------
    (n, ceil(n_bits / 8)) uint8
        Big-endian within the byte: bit 0 is the highest bit of byte 0.
    """
    bits = z > 0
    if bits.shape[1] % 8 == 0:
        # The same bytes, and numpy packs one long row three times as fast as many short ones.
        return np.packbits(bits).reshape(len(bits), code_size(bits.shape[1]))
    return np.packbits(bits, axis=1)


def unpack(codes: Codes, n_bits: int) -> NDArray[np.uint8]:
    """Packed codes to bits: (n, ceil(n_bits / 8)) uint8 to (n, n_bits) uint8 of 0 and 1."""
    return np.unpackbits(codes, axis=1, count=n_bits)


def hamming(a: Codes, b: Codes) -> NDArray[np.uint16]:
    """Hamming distances between two sets of packed codes, all against all.

    Parameters
    ----------
    a : (n, size) uint8
    b : (m, size) uint8
        Codes of the same length in bytes; zero padding adds nothing to a distance.

    Returns
    -------
    (n, m) uint16
        Numbers of differing bits. Memory is some 11·n·m bytes while it works: hand over the
        queries in blocks.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"codes of {a.shape[1]} bytes cannot be compared with {b.shape[1]} bytes")
    a_words, b_words = _words(a), _words(b)
    distances = np.zeros((len(a), len(b)), np.uint16)
    for word in range(a_words.shape[1]):
        distances += np.bitwise_count(a_words[:, word, None] ^ b_words[None, :, word])
    return distances


def _words(codes: Codes) -> NDArray[np.uint64]:
    """The codes as 64-bit words, zero-padded: one popcount then serves eight bytes."""
    n, size = codes.shape
    if size % 8:
        padded = np.zeros((n, size + -size % 8), np.uint8)
        padded[:, :size] = codes
        codes = padded
    return np.ascontiguousarray(codes).view(np.uint64)
