"""A part, some items with ascending serial numbers, as bytes.

The bytes are columns, one after the other, little-endian: lengths of the ids (uint16), labels
(int64), serial numbers minus the first (uint32), packed codes, each followed by its factors where
distances are estimated (`index.memory.factors`), and the ids in UTF-8.
"""

from __future__ import annotations

from itertools import pairwise
from zlib import crc32

import numpy as np

from bitcodes import to_codes, to_words
from index.memory.batch import Batch

# Bytes per item without code and id.
_FIXED_SIZE = 14


def encode(part: Batch, size: int) -> tuple[bytes, int]:
    """Return the bytes of a part with codes of `size` bytes, and a checksum.

    The checksum also covers the first serial number, which the bytes do not hold.
    """
    data = b"".join(
        (
            part.lengths.astype("<u2").tobytes(),
            part.labels.astype("<i8").tobytes(),
            (part.serials - part.serials[0]).astype("<u4").tobytes(),
            to_codes(part.words, size).tobytes(),
            part.data,
        )
    )
    return data, _checksum(data, int(part.serials[0]))


def decode(first: int, n: int, data: bytes, checksum: int, size: int) -> Batch | None:
    """Return the part of n items whose first serial is `first`; None if it is damaged."""
    if _checksum(data, first) != checksum or len(data) < n * (_FIXED_SIZE + size):
        return None
    at = np.cumsum([0, 2 * n, 8 * n, 4 * n, size * n])
    lengths, labels, offsets, codes = (
        np.frombuffer(data[a:b], kind)
        for (a, b), kind in zip(pairwise(at), ("<u2", "<i8", "<u4", "u1"), strict=True)
    )
    return Batch(
        data[at[-1] :],
        lengths.astype(np.int64),
        to_words(codes.reshape(n, size)),
        labels.astype(np.int64),
        offsets.astype(np.int64) + first,
    )


def _checksum(data: bytes, first: int) -> int:
    return crc32(data, first & 0xFFFFFFFF)
