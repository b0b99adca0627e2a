"""A collection as one file, written and restored while the store serves.

The file is a magic line with the format version, followed by blocks. A block is its length
(8 bytes), a CRC-32 (4 bytes) and its bytes; the last block is empty. The first block is a JSON
object that describes the collection. The others hold items in four columns, each after its length
(8 bytes): ids and payloads as JSON; codes; labels (int64, -1 for none); descriptors (float16). All
numbers are little-endian. The CRC of a block continues that of the block before, so that no block
can be missing or out of place.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np

from bitcodes import code_size
from index.collection import Collection
from index.errors import BadSnapshot
from index.store import Store
from index.validation import as_texts

MAGIC = b"Bitcell snapshot 1\n"
_HEAD = struct.Struct("<QI")
# Items per block.
_CHUNK = 4096
_MAX_BITS = 1 << 20
# What parsing JSON and using its values raises where they are not what was written.
_UNREADABLE = (ValueError, TypeError, RecursionError)


@dataclass(frozen=True)
class Description:
    """The collection in a snapshot. `name` is None in files of the first versions."""

    name: str | None
    n_bits: int
    encoder: str
    fingerprint: str
    keep_descriptors: bool


def write(collection: Collection, file: BinaryIO) -> int:
    """Write the current items to a file; return how many there are."""
    file.write(MAGIC)
    checksum = 0

    def write_block(data: bytes) -> None:
        nonlocal checksum
        checksum = crc32(data, checksum)
        file.write(_HEAD.pack(len(data), checksum) + data)

    description = {
        "name": collection.name,
        "n_bits": collection.n_bits,
        "encoder": collection.encoder,
        "fingerprint": collection.fingerprint,
        "keep_descriptors": collection.keep_descriptors,
    }
    write_block(json.dumps(description).encode())
    state = collection._state
    view, rows = state.live()
    for first in range(0, len(rows), _CHUNK):
        part = rows[first : first + _CHUNK]
        payloads = ",".join(text or "null" for text in state.payload_texts(view, part))
        columns = [
            f"[{json.dumps(view.names(part))},[{payloads}]]".encode(),
            view.codes(part).tobytes(),
            view.labels(part).astype("<i8").tobytes(),
            state.descriptors(view, part).astype("<f2").tobytes()
            if collection.keep_descriptors
            else b"",
        ]
        write_block(b"".join(struct.pack("<Q", len(column)) + column for column in columns))
    write_block(b"")
    return len(rows)


def read(store: Store, path: Path, name: str) -> Collection:
    """Make a new collection from the items in a file. If that fails, no part of it is kept.

    Raises
    ------
    BadSnapshot
        The file is not a snapshot, is damaged, or is of a newer version.
    AlreadyExists
        There is a collection of this name.
    InvalidItems
        The name is not allowed, or the items are not.
    """
    with path.open("rb") as file:
        blocks = _blocks(file, path)
        about = _description(blocks, path)
        with store._making(
            name,
            about.n_bits,
            encoder=about.encoder,
            fingerprint=about.fingerprint,
            keep_descriptors=about.keep_descriptors,
        ) as state:
            made = Collection(state)
            for data in blocks:
                ids, codes, labels, payloads, descriptors = _items(data, about.n_bits, path)
                # Earlier versions took text with lone surrogates, which may come back.
                texts = as_texts(payloads, len(ids), allow_surrogates=True)
                made._upsert(ids, codes, labels, texts, descriptors)
    return made


def describe(path: Path) -> Description:
    """Return what a file holds; raise BadSnapshot if its beginning is damaged or no snapshot."""
    with path.open("rb") as file:
        return _description(_blocks(file, path), path)


def _description(blocks: Iterator[bytes], path: Path) -> Description:
    try:
        about = json.loads(next(blocks))
        n_bits = int(about["n_bits"])
        if not 1 <= n_bits <= _MAX_BITS:
            raise ValueError(f"expected 1 to {_MAX_BITS} bits, got {n_bits}")
        return Description(
            None if about.get("name") is None else str(about["name"]),
            n_bits,
            str(about["encoder"]),
            str(about["fingerprint"]),
            bool(about["keep_descriptors"]),
        )
    except BadSnapshot:
        raise
    except (*_UNREADABLE, AttributeError, KeyError, StopIteration) as error:
        raise _damaged(path, f"its description cannot be read: {error!r}") from None


def _blocks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the blocks, each after its checksum has been verified."""
    if file.read(len(MAGIC)) != MAGIC:
        raise BadSnapshot(f"{path} is no snapshot of version 1")
    state, size = 0, os.fstat(file.fileno()).st_size
    while True:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise _damaged(path, "it ends too early")
        length, checksum = _HEAD.unpack(head)
        data = file.read(length) if length <= size - file.tell() else b""
        state = crc32(data, state)
        if len(data) != length or state != checksum:
            raise _damaged(path, f"the checksum of the block up to byte {file.tell()} is wrong")
        if not length:
            if file.read(1):
                raise _damaged(path, "more data follows its end")
            return
        yield data


def _items(data: bytes, n_bits: int, path: Path) -> tuple[Any, ...]:
    """Return ids, codes, labels, payloads and descriptors (None where there are none)."""
    columns, at = [], 0
    try:
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            columns.append(data[at + 8 : at + 8 + length])
            at += 8 + length
        texts, codes, labels, descriptors = columns
        ids, payloads = json.loads(texts)
        if not isinstance(ids, list) or not isinstance(payloads, list):
            raise TypeError("expected lists of ids and payloads")
        kept = np.frombuffer(descriptors, "<f2").reshape(len(ids), -1) if descriptors else None
        return (
            ids,
            np.frombuffer(codes, np.uint8).reshape(len(ids), code_size(n_bits)),
            np.frombuffer(labels, "<i8"),
            payloads,
            kept,
        )
    except (*_UNREADABLE, struct.error) as error:
        raise _damaged(path, f"a block cannot be read: {error}") from None


def _damaged(path: Path, why: str) -> BadSnapshot:
    return BadSnapshot(f"{path} is damaged: {why}; take the snapshot again or use another copy")
