"""The blocks of a snapshot file and what they hold, read from files that are not trusted.

`index.snapshot` describes the format.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from zlib import crc32

import numpy as np

from bitcodes import code_size
from index.errors import BadSnapshot, InvalidItems
from index.memory.factors import row_size
from index.storage.catalog import DESCRIPTOR_TYPES, METRICS, DescriptorType, Metric
from index.storage.snapshot_text import ids_and_payloads
from index.types import ItemBatch
from index.validation import check_bits, check_name

MAGIC = b"Bitcell snapshot 2\n"
MAGIC_3 = b"Bitcell snapshot 3\n"
"""Of collections that rank by estimates, which earlier versions cannot read."""
MAGIC_1 = b"Bitcell snapshot 1\n"
"""What earlier versions wrote: without an encoder, and with descriptors as float16."""
MAX_ENCODER = 72 << 20
"""Most bytes of the encoder of a snapshot: the service takes encoders of 2**24 float32."""
MAX_ITEMS = 4096
"""Most items of a block."""

_HEAD = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_COLUMNS = 4
# A block is complete at 16 MiB, then has at most 512 items of the largest size.
MAX_BLOCK = 160 << 20
# Version 1 wrote blocks of 4,096 items of any size, which stay below this.
_MAX_BLOCK_1 = 512 << 20
# Bytes that are read at a time where a block is not needed.
_PIECE = 1 << 20
_MAX_DESCRIPTION = 1 << 16
# What parsing JSON and using its values raises where they are not what was written.
_UNREADABLE = (ValueError, TypeError, LookupError, RecursionError, struct.error)


@dataclass(frozen=True)
class Description:
    """The collection in a snapshot. `name` is None in files of the first versions.

    `has_encoder` says whether the file of the encoder follows, as a block of its own.
    """

    name: str | None
    n_bits: int
    encoder: str
    fingerprint: str
    keep_descriptors: bool
    descriptor_type: DescriptorType | None
    has_encoder: bool
    metric: Metric | None = None


class Output(Protocol):
    """What blocks are written to, such as a file."""

    def write(self, data: bytes, /) -> int:
        """Write bytes."""


class BlockWriter:
    """Writes the blocks of a file, each with its checksum."""

    def __init__(self, file: Output, about: Description) -> None:
        """Write the first block."""
        file.write(MAGIC if about.metric is None else MAGIC_3)
        self._file = file
        self._checksum = 0
        fields = asdict(about)
        if about.metric is None:
            del fields["metric"]
        self._write(json.dumps(fields).encode())

    def encoder(self, file: bytes) -> None:
        """Write the block of the encoder, which comes second."""
        self._write(file)

    def items(self, columns: Sequence[bytes]) -> None:
        """Write a block of items: the bytes of its four columns."""
        self._write(b"".join(_LENGTH.pack(len(column)) + column for column in columns))

    def end(self) -> None:
        """Write the last block."""
        self._write(b"")

    def _write(self, data: bytes) -> None:
        self._checksum = crc32(data, self._checksum)
        self._file.write(_HEAD.pack(len(data), self._checksum) + data)


def read_description(blocks: Iterator[bytes], path: Path, version: int) -> Description:
    """Return what the first block says; raise BadSnapshot if it says anything else."""
    try:
        data = next(blocks, b"")
        if len(data) > _MAX_DESCRIPTION:
            raise ValueError(f"it has {len(data)} bytes, more than {_MAX_DESCRIPTION}")
        about = json.loads(data)
        if not isinstance(about, dict):
            raise TypeError(f"expected an object, got {about!r:.80}")
        name, n_bits = about.get("name"), _typed(about, "n_bits", int)
        if name is not None:
            check_name(_typed(about, "name", str))
        check_bits(n_bits)
        keep = _typed(about, "keep_descriptors", bool)
        kept, has_encoder = "float16" if keep else None, False
        if version > 1:
            kept, has_encoder = about["descriptor_type"], _typed(about, "has_encoder", bool)
        if kept not in DESCRIPTOR_TYPES or keep != (kept is not None):
            raise ValueError(f"descriptor_type is {kept!r:.80}, keep_descriptors {keep}")
        metric = about.get("metric")
        if metric not in METRICS or (metric is not None) != (version == 3):
            raise ValueError(f"metric is {metric!r:.80} in a file of version {version}")
        return Description(
            name,
            n_bits,
            _typed(about, "encoder", str),
            _typed(about, "fingerprint", str),
            keep,
            kept,
            has_encoder,
            metric,
        )
    except BadSnapshot:
        raise
    except _UNREADABLE as error:
        raise damaged(path, f"its description cannot be read: {_reason(error)}") from None


def _typed(about: dict[str, Any], field: str, kind: type) -> Any:
    """Return a field of the description; raise TypeError or ValueError unless it is of its type."""
    value: Any = about.get(field)
    if type(value) is not kind:
        raise TypeError(f"{field} is {value!r:.80}, not {kind.__name__}")
    if isinstance(value, str):
        value.encode()  # A lone surrogate is no Unicode, and cannot be stored.
    return value


def read_version(file: BinaryIO, path: Path) -> int:
    """Return the version of a file, and go to its first block."""
    magic = file.read(len(MAGIC))
    versions = {MAGIC_1: 1, MAGIC: 2, MAGIC_3: 3}
    if magic not in versions:
        raise BadSnapshot(f"{path} is no snapshot of version 1, 2 or 3")
    return versions[magic]


def read_blocks(
    file: BinaryIO, path: Path, version: int, *, only_check: bool = False
) -> Iterator[bytes]:
    """Yield the blocks from the first, each after its checksum has been verified.

    With `only_check`, all but the first are empty, and take no memory; and a file of version 1 may
    have no larger blocks than others, because a restore holds them in memory.
    """
    largest = _MAX_BLOCK_1 if version == 1 and not only_check else MAX_BLOCK
    state, size, is_first = 0, os.fstat(file.fileno()).st_size, True
    while True:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise damaged(path, "it ends too early")
        length, checksum = _HEAD.unpack(head)
        limit = _MAX_DESCRIPTION if is_first else largest
        if length > limit:
            raise damaged(path, f"a block has {length} bytes; at most {limit} are possible")
        n, data = min(length, size - file.tell()), b""
        if is_first or not only_check:
            data = file.read(n)
            state = crc32(data, state)
        else:
            for start in range(0, n, _PIECE):
                state = crc32(file.read(min(_PIECE, n - start)), state)
        is_first = False
        if n != length or state != checksum:
            raise damaged(path, f"the checksum of the block up to byte {file.tell()} is wrong")
        if not length:
            if file.read(1):
                raise damaged(path, "more data follows its end")
            return
        yield data


def read_encoder(blocks: Iterator[bytes], path: Path) -> bytes:
    """Return the block of the encoder; raise BadSnapshot if there is none or it is too large."""
    data = next(blocks, b"")
    if not 0 < len(data) <= MAX_ENCODER:
        raise damaged(path, f"its encoder has {len(data)} bytes, not 1 to {MAX_ENCODER}")
    return data


def read_items(data: bytes, about: Description, path: Path) -> ItemBatch:
    """Return the items of a block."""
    try:
        texts, codes, labels, descriptors = _columns(data)
        ids, payloads = ids_and_payloads(texts.decode(), MAX_ITEMS)
        kept = None
        if descriptors:
            # Without a type they are refused later, whatever they are.
            dtype = np.dtype(about.descriptor_type or "uint8").newbyteorder("<")
            kept = np.frombuffer(descriptors, dtype).reshape(len(ids), -1)
        size, factors = code_size(about.n_bits), None
        rows = np.frombuffer(codes, np.uint8)
        rows = rows.reshape(len(ids), row_size(about.n_bits, about.metric is not None))
        if about.metric is not None:
            factors = np.ascontiguousarray(rows[:, size:]).view("<f4")
        return ItemBatch(
            ids,
            np.ascontiguousarray(rows[:, :size]),
            np.frombuffer(labels, "<i8"),
            payloads,
            kept,
            factors,
        )
    except InvalidItems:
        raise
    except _UNREADABLE as error:
        raise damaged(path, f"a block cannot be read: {_reason(error)}") from None


def _columns(data: bytes) -> Sequence[bytes]:
    columns, at = [], 0
    for _ in range(_COLUMNS):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if length > len(data) - at:
            raise ValueError(f"a column of {length} bytes begins at {at} of {len(data)}")
        columns.append(data[at : at + length])
        at += length
    if at != len(data):
        raise ValueError(f"its columns have {at} bytes, and the block has {len(data)}")
    return columns


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def damaged(path: Path, why: str) -> BadSnapshot:
    """Return the error to raise for a file that is not what was written."""
    return BadSnapshot(f"{path} is damaged: {why}; take the snapshot again or use another copy")
