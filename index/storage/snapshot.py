"""A collection in one file, taken and put back while it serves.

The file: a magic line with the format version; then blocks, each of a length (8 bytes), its CRC-32
(4 bytes) and its bytes; the last one is empty. The first block is a JSON object that describes the
collection. The others are items in four columns, each after its length (8 bytes): ids and payloads
as JSON, codes, labels (int64, -1 for none), descriptors (float16). All numbers are little-endian.
The CRC of a block goes on from that of the block before, so that none can be left out or change
places.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from zlib import crc32

import numpy as np

from bitcodes import code_size
from index.errors import Unreadable

if TYPE_CHECKING:
    from index.collection import Collection
    from index.store import Store

MAGIC = b"Bitcell snapshot 1\n"
_HEAD = struct.Struct("<QI")


@dataclass(frozen=True)
class Described:
    """The collection of a snapshot; files of the first versions do not have its name."""

    name: str | None
    n_bits: int
    encoder: str
    fingerprint: str
    keep_descriptors: bool


def write(collection: Collection, path: Path) -> int:
    """Write the items of this moment to a new file; how many there are.

    The file appears under its name when it is whole and on disk, and replaces one that is there.
    """
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as file:
            n = _write(collection, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # For the name.
        finally:
            os.close(folder)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return n


def _write(collection: Collection, file: BinaryIO) -> int:
    file.write(MAGIC)
    state = 0

    def block(data: bytes) -> None:
        nonlocal state
        state = crc32(data, state)
        file.write(_HEAD.pack(len(data), state) + data)

    described = {
        "name": collection.name,
        "n_bits": collection.n_bits,
        "encoder": collection.encoder,
        "fingerprint": collection.fingerprint,
        "keep_descriptors": collection.keep_descriptors,
    }
    block(json.dumps(described).encode())
    n = 0
    for ids, codes, labels, payloads, descriptors in collection.export():
        texts = json.dumps([ids, payloads], separators=(",", ":"))
        columns = [
            texts.encode(),
            codes.tobytes(),
            labels.astype("<i8").tobytes(),
            b"" if descriptors is None else descriptors.astype("<f2").tobytes(),
        ]
        block(b"".join(struct.pack("<Q", len(column)) + column for column in columns))
        n += len(ids)
    block(b"")
    return n


def read(store: Store, path: Path, name: str) -> Collection:
    """A new collection of the items in a file; nothing is left of one that is damaged.

    Raises
    ------
    Unreadable
        The file is no snapshot, is damaged or of a newer version.
    AlreadyExists
    """
    with path.open("rb") as file:
        blocks = _blocks(file, path)
        about = _describe(blocks, path)
        made = store.begin(
            name,
            about.n_bits,
            encoder=about.encoder,
            fingerprint=about.fingerprint,
            keep_descriptors=about.keep_descriptors,
        )
        try:
            for data in blocks:
                made.upsert(*_items(data, made, path))
            store.finish(made, name)
        except BaseException:
            made.drop()
            raise
    return made


def describe(path: Path) -> Described:
    """What a file is a snapshot of; Unreadable where it is none, or its beginning is damaged."""
    with path.open("rb") as file:
        return _describe(_blocks(file, path), path)


def _describe(blocks: Iterator[bytes], path: Path) -> Described:
    try:
        about = json.loads(next(blocks))
        return Described(
            None if about.get("name") is None else str(about["name"]),
            int(about["n_bits"]),
            str(about["encoder"]),
            str(about["fingerprint"]),
            bool(about["keep_descriptors"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, StopIteration) as error:
        raise _damaged(path, f"its description cannot be read: {error!r}") from None


def _blocks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The blocks, each checked before it is used."""
    if file.read(len(MAGIC)) != MAGIC:
        raise Unreadable(f"{path} is no snapshot of version 1")
    state, size = 0, os.fstat(file.fileno()).st_size
    while True:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise _damaged(path, "it ends too soon")
        length, checksum = _HEAD.unpack(head)
        data = file.read(length) if length <= size - file.tell() else b""
        state = crc32(data, state)
        if len(data) != length or state != checksum:
            raise _damaged(path, f"the block that ends at byte {file.tell()} does not hold")
        if not length:
            if file.read(1):
                raise _damaged(path, "something follows its end")
            return
        yield data


def _items(data: bytes, made: Collection, path: Path) -> tuple[Any, ...]:
    columns, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        columns.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    try:
        texts, codes, labels, descriptors = columns
        ids, payloads = json.loads(texts)
        kept = np.frombuffer(descriptors, "<f2").reshape(len(ids), -1) if descriptors else None
        return (
            ids,
            np.frombuffer(codes, np.uint8).reshape(len(ids), code_size(made.n_bits)),
            np.frombuffer(labels, "<i8"),
            payloads,
            kept,
        )
    except (ValueError, TypeError) as error:
        raise _damaged(path, f"a block cannot be read: {error}") from None


def _damaged(path: Path, why: str) -> Unreadable:
    return Unreadable(f"{path} is damaged, {why}: take the snapshot anew, or use another copy")
