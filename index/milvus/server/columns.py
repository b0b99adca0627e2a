"""Items as the columns of Milvus, in its messages."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

from bitcodes import Codes, code_size
from index.errors import InvalidItems
from index.storage.catalog import DescriptorType

MAX_ID = 1024
"""Bytes of an id."""
MAX_PAYLOAD = 65_536
MAX_TEXT = 65_535
"""Bytes of the text of a descriptor."""
MAX_BITS = 32_768
MAX_WRITE = 48 << 20
"""Bytes of a write: Milvus takes messages of 64 MiB."""

ID, CODE, LABEL, SERIAL, PAYLOAD, DESCRIPTOR = FIELDS = (
    "id",
    "code",
    "label",
    "serial",
    "payload",
    "descriptor",
)
# What the payload of an item is that has none. No payload is null.
_NONE = b"null"

# Milvus reads no larger integers than of 64 bits, and some of these only with their sign.
_LARGEST = (1 << 63) - 1
_MAY_BE_LARGE = re.compile(r"[0-9]{19}")

Types = schema_pb2.DataType


class Columns(NamedTuple):
    """Items by columns, of which those that were not asked for are empty. Descriptors are text."""

    ids: list[str]
    codes: Codes
    labels: NDArray[np.int64]
    serials: NDArray[np.int64]
    payloads: list[bytes | None]
    descriptors: list[str]


def upsert_request(columns: Columns) -> Any:
    """Return the request that writes items, but for the name of the collection."""
    ids, codes, labels, serials, payloads, descriptors = columns
    fields = [
        _scalars(ID, Types.VarChar, string_data=schema_pb2.StringArray(data=ids)),
        schema_pb2.FieldData(
            type=Types.BinaryVector,
            field_name=CODE,
            vectors=schema_pb2.VectorField(
                dim=8 * codes.shape[1], binary_vector=np.ascontiguousarray(codes).tobytes()
            ),
        ),
        _scalars(LABEL, Types.Int64, long_data=schema_pb2.LongArray(data=labels)),
        _scalars(SERIAL, Types.Int64, long_data=schema_pb2.LongArray(data=serials)),
        _scalars(
            PAYLOAD,
            Types.JSON,
            json_data=schema_pb2.JSONArray(
                data=[_NONE if each is None else each for each in payloads]
            ),
        ),
    ]
    if descriptors:
        column = schema_pb2.StringArray(data=descriptors)
        fields.append(_scalars(DESCRIPTOR, Types.VarChar, string_data=column))
    return milvus_pb2.UpsertRequest(fields_data=fields, num_rows=len(ids))


def _scalars(name: str, of: int, **data: Any) -> Any:
    return schema_pb2.FieldData(type=of, field_name=name, scalars=schema_pb2.ScalarField(**data))


def read_columns(fields: Any, n_bits: int, ids: Sequence[str] | None = None) -> Columns:
    """Return the items of fields, as requests and answers have them."""
    codes = np.empty((0, code_size(n_bits)), np.uint8)
    labels = serials = np.empty(0, np.int64)
    payloads: list[bytes | None] = []
    descriptors: list[str] = []
    for field in fields:
        scalars = field.scalars
        if field.field_name == ID:
            ids = scalars.string_data.data
        elif field.field_name == CODE:
            codes = np.frombuffer(field.vectors.binary_vector, np.uint8)
            codes = codes.reshape(-1, code_size(n_bits))
        elif field.field_name == LABEL:
            labels = np.array(scalars.long_data.data, np.int64)
        elif field.field_name == SERIAL:
            serials = np.array(scalars.long_data.data, np.int64)
        elif field.field_name == PAYLOAD:
            payloads = [None if each == _NONE else each for each in scalars.json_data.data]
        elif field.field_name == DESCRIPTOR:
            descriptors = list(scalars.string_data.data)
    return Columns(list(ids or []), codes, labels, serials, payloads, descriptors)


def chosen(columns: Columns, places: Sequence[int] | NDArray[np.integer]) -> Columns:
    """Return some of the items."""
    at = np.asarray(places, np.int64)
    rows = at.tolist()

    def of(column: Any) -> Any:
        if not len(column):
            return column
        return column[at] if isinstance(column, np.ndarray) else [column[row] for row in rows]

    return Columns(*map(of, columns))


def joined(parts: Sequence[Columns], n_bits: int) -> Columns:
    """Return the items of several parts, which have the same columns."""
    if not parts:
        return read_columns([], n_bits)
    if len(parts) == 1:
        return parts[0]
    n = sum(len(part.ids) for part in parts)

    def of(columns: Sequence[Any]) -> Any:
        if isinstance(columns[0], np.ndarray):
            whole: Any = np.concatenate(columns)
        else:
            whole = [value for column in columns for value in column]
        return whole if len(whole) == n else whole[:0]

    return Columns(*map(of, zip(*parts, strict=True)))


def as_text(descriptors: NDArray[Any]) -> list[str]:
    """Return descriptors, rounded as they are kept, as text."""
    little = descriptors.astype(descriptors.dtype.newbyteorder("<"), copy=False)
    texts = [base64.b64encode(row.tobytes()).decode() for row in little]
    if texts and len(texts[0]) > MAX_TEXT:
        most = MAX_TEXT // 4 * 3 // descriptors.dtype.itemsize
        raise InvalidItems(
            f"descriptors that an index in Milvus keeps as {descriptors.dtype} have at most {most} "
            f"values; these have {descriptors.shape[1]}"
        )
    return texts


def as_descriptors(texts: Sequence[str], kept: DescriptorType) -> NDArray[Any]:
    """Return the descriptors of texts, (n, d)."""
    of = np.dtype(kept)
    data = b"".join(map(base64.b64decode, texts))
    rows = np.frombuffer(data, of.newbyteorder("<")).astype(of, copy=False)
    return rows.reshape(len(texts), -1) if texts else rows.reshape(0, 1)


def check_ids_fit(ids: Sequence[str]) -> None:
    """Raise InvalidItems if an id is longer than Milvus takes."""
    for place, item_id in enumerate(ids):
        if len(item_id) * 4 > MAX_ID and len(item_id.encode()) > MAX_ID:
            raise InvalidItems(
                f"an id in Milvus has at most {MAX_ID} bytes of UTF-8; that of item {place} has "
                f"{len(item_id.encode())}",
                place,
            )


def texts(ids: Sequence[str]) -> list[str]:
    """Return distinct ids that are Unicode; others, with lone surrogates, no item has."""
    distinct = list(dict.fromkeys(ids))
    if _is_text("".join(distinct)):
        return distinct
    return [item_id for item_id in distinct if _is_text(item_id)]


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_payloads(ids: Sequence[str], texts: Sequence[str | None] | None) -> list[bytes | None]:
    """Return payloads in UTF-8; raise InvalidItems if Milvus would read one in another way."""
    if texts is None:
        return [None] * len(ids)
    for place, text in enumerate(texts):
        if text is not None and _MAY_BE_LARGE.search(text):
            _check_integers(json.loads(text), ids[place], place)
    found = [None if text is None else text.encode() for text in texts]
    for place, payload in enumerate(found):
        if payload is not None and len(payload) > MAX_PAYLOAD:
            raise InvalidItems(
                f"a payload in Milvus has at most {MAX_PAYLOAD} bytes; that of item "
                f"{ids[place]!r} has {len(payload)}",
                place,
            )
    return found


def _check_integers(value: Any, item_id: str, place: int) -> None:
    inside: list[Any] = [value]
    while inside:
        each = inside.pop()
        if isinstance(each, dict):
            inside += each.values()
        elif isinstance(each, list):
            inside += each
        elif isinstance(each, int) and abs(each) > _LARGEST:
            raise InvalidItems(
                f"integers in payloads in Milvus are smaller than 2**63; one of item {item_id!r} "
                f"is {each}",
                place,
            )
