"""Encode Arrow record batches, as parquet readers, Spark and other engines give them.

The functions take pyarrow's objects; this module imports pyarrow only where it must make one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes, code_size
from hashing.base import Hasher
from hashing.validation import InvalidInput, suggestion

CODE = "code"
"""The column of codes."""
NAMES = ("descriptors", "descriptor", "embeddings", "embedding", "vectors", "vector", "emb")
"""The column of descriptors has one of these names, if several columns have lists of numbers."""
LABELS = ("labels", "label")
"""Columns of labels, which may be lists of integers, are no descriptors."""


def encode_batches(
    hasher: Hasher, batches: Iterable[Any], column: str | None = None
) -> Iterator[Any]:
    """Yield record batches with codes in place of descriptors.

    It reads one batch at a time, so it can be what an engine maps over a stream: `mapInArrow` of
    Spark, for instance.

    Parameters
    ----------
    hasher : Hasher
        A fitted hasher.
    batches : iterable of pyarrow.RecordBatch
    column : str, optional
        The column of descriptors: lists of numbers. By default the only such column, or the one
        with a name in `NAMES`.

    Yields
    ------
    pyarrow.RecordBatch
        The other columns as they are, then `code`: fixed-size binary, the rows of `encode`.

    Raises
    ------
    InvalidInput
        A ValueError: there is no such column, or a descriptor has another dimension, a null, or a
        value that is not finite. The message names its row, counted over all batches.
    """
    first = 0
    for batch in batches:
        yield encode_batch(hasher, batch, column, first)
        first += len(batch)


def encode_batch(hasher: Hasher, batch: Any, column: str | None = None, first: int = 0) -> Any:
    """Return one record batch as `encode_batches` does; messages count its rows from `first`."""
    import pyarrow as pa

    column = descriptor_column(batch.schema, column)
    X = matrix(batch.column(column), column, hasher.n_features_in_, first)
    codes = encode_rows(hasher, X, first, f"column {column!r}, ")
    others = [batch.column(place) for place in _others(batch.schema, column)]
    schema = encoded_schema(batch.schema, column, hasher.n_bits)
    return pa.RecordBatch.from_arrays([*others, code_array(codes)], schema=schema)


def encode_rows(hasher: Hasher, X: NDArray[Any], first: int = 0, where: str = "") -> Codes:
    """Return `encode(X)` of some rows of a file; an error counts them from `first`."""
    try:
        return hasher.encode(X)
    except InvalidInput as error:
        if error.row is None:
            raise InvalidInput(f"{where}rows {first} to {first + len(X) - 1}: {error}") from None
        with np.errstate(over="ignore", invalid="ignore"):
            row = X[error.row].astype(np.float32)
        place = int(np.argmin(np.isfinite(row)))
        raise InvalidInput(
            f"{where}row {first + error.row}: the numbers must be finite and at most 3.4e+38 in "
            f"size; number {place} is {X[error.row, place]}",
            first + error.row,
        ) from None


def encoded_schema(schema: Any, column: str, n_bits: int) -> Any:
    """Return the schema of batches that are encoded; metadata of the whole schema is dropped."""
    import pyarrow as pa

    others = [schema.field(place) for place in _others(schema, column)]
    code = pa.field(CODE, pa.binary(code_size(n_bits)), nullable=False)
    return pa.schema([*others, code])


def _others(schema: Any, column: str) -> list[int]:
    """Return the places of the other columns; InvalidInput if one has the name of the codes."""
    if CODE in schema.names and column != CODE:
        raise InvalidInput(
            f"there is a column {CODE!r} already, which the codes would replace: rename it, or "
            "leave it out"
        )
    return [place for place, name in enumerate(schema.names) if name != column]


def descriptor_column(schema: Any, column: str | None = None) -> str:
    """Return the name of the column of descriptors; InvalidInput unless it can be told.

    A column that is named must be there and have lists of numbers.
    """
    lists = [
        field.name
        for field in schema
        if _has_numbers(field.type) and (field.name not in LABELS or field.name == column)
    ]
    if column is not None:
        found = [column] if column in lists else []
    else:
        found = [each for each in NAMES if each in lists] if len(lists) > 1 else lists
    if len(found) == 1 and schema.names.count(found[0]) == 1:
        return found[0]
    columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
    if column is None:
        wanted = f"one column of lists of numbers, or one named {', '.join(NAMES)}"
    else:
        hint = "" if column in schema.names else suggestion(column, lists)
        wanted = f"one column {column!r} of lists of numbers{hint}"
    raise InvalidInput(f"expected {wanted}; the columns are {columns:.500}")


def _has_numbers(kind: Any) -> bool:
    from pyarrow import types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(
        is_list and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type))
    )


def matrix(lists: Any, column: str, n_features: int | None = None, first: int = 0) -> NDArray[Any]:
    """Return an Arrow array of lists of one length as a matrix: a view, not a copy.

    Parameters
    ----------
    lists : pyarrow array of lists, fixed-size lists or large lists of numbers
    column : str
        Its name, for messages.
    n_features : int, optional
        The length that the lists must have; by default that of the first.
    first : int
        The number of the first row, for messages.

    Raises
    ------
    InvalidInput
        A list has another length, or there are nulls.
    """
    from pyarrow import compute

    if lists.null_count:
        row = first + compute.index(compute.is_null(lists), True).as_py()
        raise InvalidInput(f"column {column!r} has nulls: the first is row {row}", row - first)
    lengths = compute.list_value_length(lists).to_numpy(zero_copy_only=False)
    d = n_features
    if d is None:
        d = int(lengths[0]) if len(lengths) else 0
    if (other := np.flatnonzero(lengths != d)).size:
        row, found = first + int(other[0]), int(lengths[other[0]])
        expected = (
            f"row {first} has {d} numbers, row {row} has {found}"
            if n_features is None
            else f"expected descriptors of dimension {d}, got {found} in row {row}"
        )
        raise InvalidInput(f"column {column!r}: {expected}", row - first)
    values = lists.flatten()
    if values.null_count:
        place = compute.index(compute.is_null(values), True).as_py()
        raise InvalidInput(
            f"column {column!r} has nulls in its lists: the first is in row {first + place // d}",
            place // d,
        )
    return np.asarray(values.to_numpy(zero_copy_only=True).reshape(len(lists), d))


def code_array(codes: Codes) -> Any:
    """Return packed codes as an Arrow array of fixed-size binary, without a copy if possible."""
    import pyarrow as pa

    codes = np.ascontiguousarray(codes)
    n, size = codes.shape
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), n, [None, pa.py_buffer(codes)])


def codes_of(column: Any) -> Codes:
    """Return an Arrow array of binary values of one length as packed codes: a view if possible.

    Raises
    ------
    InvalidInput
        There are nulls, or values of different lengths.
    """
    from pyarrow import compute, types

    if column.null_count:
        row = compute.index(compute.is_null(column), True).as_py()
        raise InvalidInput(f"the codes have nulls: the first is row {row}", row)
    if types.is_fixed_size_binary(column.type):
        size = column.type.byte_width
        _, data = column.buffers()
        start = column.offset * size
    else:
        lengths = compute.binary_length(column).to_numpy()
        size = int(lengths[0]) if len(lengths) else 0
        if (other := np.flatnonzero(lengths != size)).size:
            row = int(other[0])
            raise InvalidInput(
                f"expected codes of one length: row 0 has {size} bytes, row {row} has "
                f"{lengths[row]}",
                row,
            )
        _, offsets, data = column.buffers()
        kind = np.int64 if types.is_large_binary(column.type) else np.int32
        start = int(np.frombuffer(offsets, kind)[column.offset]) if len(column) else 0
    if not len(column):
        return np.empty((0, size), np.uint8)
    flat = np.frombuffer(data, np.uint8, len(column) * size, start)
    return flat.reshape(len(column), size)
