"""Snapshot files taken apart and put together again, with checksums that are right."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from zlib import crc32

MAGIC = b"Bitcell snapshot %d\n"
SIZE = len(MAGIC % 1)


def split(data: bytes) -> list[bytes]:
    """Return the blocks of a file, without the empty one at the end."""
    blocks, at = [], SIZE
    while length := struct.unpack_from("<Q", data, at)[0]:
        blocks.append(data[at + 12 : at + 12 + length])
        at += 12 + length
    return blocks


def join(blocks: Iterable[bytes], version: int = 2) -> bytes:
    """Return a file of these blocks and an empty one at the end."""
    data, checksum = MAGIC % version, 0
    for block in [*blocks, b""]:
        checksum = crc32(block, checksum)
        data += struct.pack("<QI", len(block), checksum) + block
    return data


def columns(block: bytes) -> list[bytes]:
    """Return the columns of a block of items."""
    found, at = [], 0
    while at < len(block):
        (length,) = struct.unpack_from("<Q", block, at)
        found.append(block[at + 8 : at + 8 + length])
        at += 8 + length
    return found


def block_of(columns: Sequence[bytes]) -> bytes:
    """Return a block of items with these columns."""
    return b"".join(struct.pack("<Q", len(column)) + column for column in columns)
