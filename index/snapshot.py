"""A collection as one file, written and restored while the store serves.

The file is a magic line with the format version, followed by blocks. A block is its length
(8 bytes), a CRC-32 (4 bytes) and its bytes; the last block is empty. The first block is a JSON
object that describes the collection. If it says so, the second one is the file of the encoder,
which only the service can read. The others hold up to 4,096 items in four columns, each after its
length (8 bytes): ids and payloads as JSON; codes, each followed by its factors (3 float32: scale,
offset and error) where distances are estimated; labels (int64, -1 for none); descriptors (of the
type that the description gives). All numbers are little-endian. The CRC of a block continues that
of the block before, so that no block can be missing or out of place.

A file may come from a stranger, with checksums that are right. A restore therefore takes only what
`Collection.upsert` takes, and lone surrogates, which earlier versions took. A snapshot is only
written of what can be restored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from index.backend import Collection, Store
from index.errors import InvalidItems
from index.storage.snapshot_format import (
    MAGIC,
    MAX_ITEMS,
    BlockWriter,
    Description,
    Output,
    damaged,
    read_blocks,
    read_description,
    read_encoder,
    read_items,
    read_version,
)
from index.types import ItemBatch
from index.validation import check_stored

__all__ = ["MAGIC", "Description", "check", "describe", "encoder_file", "read", "write"]

# Items that are read before the size of a block is looked at, and when the block is then complete.
_STEP = 512
_ENOUGH = 16 << 20


def write(collection: Collection, file: Output, encoder: bytes | None = None) -> int:
    """Write the current items to a file; return how many there are.

    `encoder` is the file of the encoder, which the snapshot then contains.

    Raises
    ------
    NotFound
        The collection is dropped meanwhile.
    InvalidItems
        An earlier version accepted an item that this one would not restore.
    """
    writer = BlockWriter(
        file,
        Description(
            collection.name,
            collection.n_bits,
            collection.encoder,
            collection.fingerprint,
            collection.keep_descriptors,
            collection.descriptor_type,
            encoder is not None,
            collection.metric,
        ),
    )
    if encoder is not None:
        writer.encoder(encoder)
    n = 0
    for batches in _blocks(collection.item_batches(_STEP)):
        ids = [item_id for batch in batches for item_id in batch.ids]
        texts = [text for batch in batches for text in batch.payloads]
        check_stored(ids, texts)
        payloads = ",".join(text or "null" for text in texts)
        writer.items(
            [
                f"[{json.dumps(ids)},[{payloads}]]".encode(),
                b"".join(map(_rows, batches)),
                b"".join(batch.labels.astype("<i8").tobytes() for batch in batches),
                b"".join(_descriptors(batch) for batch in batches),
            ]
        )
        n += len(ids)
    writer.end()
    return n


def _rows(batch: ItemBatch) -> bytes:
    """Return codes, each followed by its factors where distances are estimated."""
    if batch.factors is None:
        return batch.codes.tobytes()
    factors = batch.factors.astype("<f4")
    return np.concatenate([batch.codes, factors.view(np.uint8)], axis=1).tobytes()


def _descriptors(batch: ItemBatch) -> bytes:
    kept = batch.descriptors
    if kept is None:
        return b""
    return kept.astype(kept.dtype.newbyteorder("<"), copy=False).tobytes()


def _blocks(batches: Iterator[ItemBatch]) -> Iterator[list[ItemBatch]]:
    """Yield the batches of each block, which has a limited number of bytes."""
    block: list[ItemBatch] = []
    n = size = 0
    for batch in batches:
        block.append(batch)
        n += len(batch.ids)
        size += sum(len(text) for text in batch.payloads if text)
        size += 0 if batch.descriptors is None else batch.descriptors.nbytes
        if n >= MAX_ITEMS or size >= _ENOUGH:
            yield block
            block, n, size = [], 0, 0
    if block:
        yield block


def read(
    store: Store,
    path: Path,
    name: str,
    check: Callable[[Description], int | None] = lambda about: None,
    encoder: str | None = None,
) -> Collection:
    """Make a new collection from the items in a file. If that fails, no part of it is kept.

    Parameters
    ----------
    store : Store
    path : Path
    name : str
        Of the new collection.
    check : callable
        Called with the description before anything else happens. It raises if the file is not
        wanted, and returns the dimension that descriptors must have, None for any.
    encoder : str, optional
        Name of the encoder from now on; by default as in the file.

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
        about, blocks = _open(file, path)
        dimension = check(about)
        first = 1
        if about.has_encoder:
            read_encoder(blocks, path)
            first = 2
        with store.making(
            name,
            about.n_bits,
            encoder=about.encoder if encoder is None else encoder,
            fingerprint=about.fingerprint,
            descriptor_type=about.descriptor_type,
            metric=about.metric,
        ) as made:
            n = 0
            for place, data in enumerate(blocks, first):
                try:
                    n += _put(made, read_items(data, about, path), dimension)
                except InvalidItems as error:
                    raise InvalidItems(f"block {place} of {path.name}: {error}") from None
            if n != len(made):
                raise damaged(path, f"it holds {n} items, but only {len(made)} distinct ids")
    return made


def describe(path: Path) -> Description:
    """Return what a file holds; raise BadSnapshot if its beginning is damaged or no snapshot."""
    with path.open("rb") as file:
        return _open(file, path)[0]


def encoder_file(path: Path) -> bytes | None:
    """Return the file of the encoder in a snapshot; None if it has none.

    Raise BadSnapshot if what comes before it is damaged.
    """
    with path.open("rb") as file:
        about, blocks = _open(file, path)
        return read_encoder(blocks, path) if about.has_encoder else None


def check(path: Path) -> Description:
    """Read a file to its end; raise BadSnapshot if a checksum is wrong or its end is missing.

    Whether its items are allowed is checked when they are restored. The file takes no memory.
    """
    with path.open("rb") as file:
        about, blocks = _open(file, path, only_check=True)
        for _ in blocks:
            pass
        return about


def _open(
    file: BinaryIO, path: Path, *, only_check: bool = False
) -> tuple[Description, Iterator[bytes]]:
    version = read_version(file, path)
    blocks = read_blocks(file, path, version, only_check=only_check)
    return read_description(blocks, path, version), blocks


def _put(collection: Collection, batch: ItemBatch, dimension: int | None) -> int:
    kept = batch.descriptors
    if dimension is not None and kept is not None and kept.shape[1] != dimension:
        raise InvalidItems(
            f"expected descriptors of dimension {dimension}, which the encoder takes; got "
            f"{kept.shape[1]}"
        )
    collection.put(batch)
    return len(batch.ids)
