"""Read items from parquet files of codes: codes, ids, labels and payloads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.datasets import parquet
from app.datasets.dataset import BadDataset
from app.encoding.codes_file import About, read_about
from app.encoding.sources import check_pyarrow, named, opened, parquet_files, row_bytes, rows_of
from bitcodes import Codes
from hashing.arrow import CODE, LABELS, codes_of
from hashing.validation import InvalidInput, suggestion

_CODES = (CODE, "codes")
_IDS = ("id", "ids")
_MARKS = b"[]{}:,"
_MARK_BYTES = 5


@dataclass(frozen=True)
class Items:
    """Some items of a file; `labels` and `payloads` are None if the file has none.

    `sizes` says what each payload takes in a request: its bytes in JSON, and _MARK_BYTES more for
    each structural character, as the service needs memory for these.
    """

    ids: NDArray[Any]
    codes: Codes
    labels: NDArray[np.int64] | None
    payloads: list[dict[str, Any]] | None
    sizes: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class ItemFiles:
    """Parquet files with a column of codes.

    Attributes
    ----------
    about : About
        What the files say of their codes.
    code_bytes : int, or None
        The bytes of a code; None if the type of the column does not say it.
    unused : list of str
        The columns that are not read.
    """

    files: list[Path]
    n_rows: int
    about: About
    code: str
    code_bytes: int | None
    ids: str | None
    label: str | None
    payload: list[str]
    unused: list[str]

    def __len__(self) -> int:
        return self.n_rows

    def batches(self, rows: int) -> Iterator[Items]:
        """Read all items, at most `rows` at a time, and fewer if they are wide.

        Without a column of ids, the ids are the numbers of the rows over all files.

        Raises
        ------
        BadDataset
            A file is damaged, or has nulls or values that cannot be read as ids or labels.
        """
        others = [name for name in (self.ids, self.label) if name is not None]
        names = list(dict.fromkeys([self.code, *others, *self.payload]))
        start = 0
        for path in self.files:
            first = 0
            with opened(path) as file:
                about = file.metadata
                groups = map(about.row_group, range(about.num_row_groups))
                widest = max((row_bytes(group, names) for group in groups), default=0)
                for batch in file.iter_batches(rows_of(widest, rows), columns=names):
                    with named(f"{path}, rows {first} to {first + len(batch) - 1}"):
                        yield self._items(batch, start, first)
                    first += len(batch)
                    start += len(batch)

    def _items(self, batch: Any, start: int, first: int) -> Items:
        ids = np.arange(start, start + len(batch))
        if self.ids is not None:
            ids = _plain(batch.column(self.ids), self.ids)
        labels = None
        if self.label is not None:
            labels = _plain(batch.column(self.label), self.label)
            if self.class_names is not None:
                places = np.searchsorted(self.class_names, labels)
                labels = np.where(labels == "", -1, places)
        payloads = sizes = None
        if self.payload:
            rows = batch.select(self.payload).to_pylist()
            payloads = [{name: v for name, v in row.items() if v is not None} for row in rows]
            sizes = np.array([_json_size(row, first + i) for i, row in enumerate(payloads)])
        return Items(ids, codes_of(_plain_layout(batch.column(self.code))), labels, payloads, sizes)

    @cached_property
    def class_names(self) -> NDArray[np.str_] | None:
        """What the labels 0, 1, … stand for, in sorted order; None if labels are no text."""
        from pyarrow import compute

        if self.label is None:
            return None
        found = np.empty(0, np.str_)
        for path in self.files:
            with opened(path) as file, named(str(path)):
                for batch in file.iter_batches(columns=[self.label]):
                    some = _plain(compute.unique(_plain_layout(batch.column(0))), self.label)
                    if some.dtype.kind != "U":
                        return None
                    found = np.union1d(found, some)
        named_classes: NDArray[np.str_] = found[found != ""]
        return named_classes


def open_items(path: Path, payload: list[str]) -> ItemFiles | None:
    """Return the items of a parquet file or of the `.parquet` files of a folder.

    Parameters
    ----------
    path : Path
    payload : list of str
        The columns that become fields of the payloads.

    Returns
    -------
    ItemFiles, or None
        None if it is no parquet, or has no column of codes.

    Raises
    ------
    BadDataset
        A column is missing or of a type that cannot be read, or the files differ in columns or in
        what they say of their codes.
    """
    if not path.exists():
        return None
    files = parquet_files(path) if path.is_dir() else [path]
    with files[0].open("rb") as start:
        if start.read(len(parquet.MAGIC)) != parquet.MAGIC:
            return None
    check_pyarrow(path, "read")
    import pyarrow as pa

    n_rows = 0
    for each in files:
        with opened(each) as file, named(str(each)):
            schema, about = file.schema_arrow, read_about(file.schema_arrow)
            if each == files[0]:
                first, expected = schema, about
            elif not schema.equals(first) or about != expected:
                raise BadDataset(
                    f"{each}: expected the columns of {files[0]}, and codes of the same encoder"
                )
            n_rows += file.metadata.num_rows
    if (code := _code_column(first)) is None:
        return None
    with named(str(path)):
        _check_payload(first, payload)
        ids, label = _names_column(first, _IDS), _names_column(first, LABELS)
    unused = [name for name in first.names if name not in (code, ids, label, *payload)]
    kind = first.field(code).type
    size = kind.byte_width if pa.types.is_fixed_size_binary(kind) else None
    return ItemFiles(files, n_rows, expected, code, size, ids, label, payload, unused)


def _code_column(schema: Any) -> str | None:
    from pyarrow import types

    kinds = (
        types.is_fixed_size_binary,
        types.is_binary,
        types.is_large_binary,
        types.is_binary_view,
    )
    for name in _CODES:
        if schema.names.count(name) == 1 and any(kind(schema.field(name).type) for kind in kinds):
            return name
    return None


def _plain(column: Any, name: str) -> NDArray[Any]:
    """Return ids or labels as integers or strings."""
    import pyarrow as pa

    column = _plain_layout(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        raise InvalidInput(
            f"column {name!r} has nulls; expected an integer or a string in each row"
        )
    if pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False).astype(np.str_))
    raise _no_names(name, column.type)


def _plain_layout(column: Any) -> Any:
    """Return a column of text or bytes in the layout that all functions of pyarrow take."""
    import pyarrow as pa

    if pa.types.is_string_view(column.type):
        return column.cast(pa.large_string())
    if pa.types.is_binary_view(column.type):
        return column.cast(pa.large_binary())
    return column


def _names_column(schema: Any, names: tuple[str, ...]) -> str | None:
    """Return which column has ids or labels, None if none has; InvalidInput if it cannot."""
    from pyarrow import types

    if (name := next((name for name in names if name in schema.names), None)) is None:
        return None
    if (count := schema.names.count(name)) > 1:
        raise InvalidInput(f"expected one column {name!r}, got {count}")
    kind = schema.field(name).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_integer(kind) or _is_text(kind)):
        raise _no_names(name, kind)
    return name


def _no_names(name: str, kind: Any) -> InvalidInput:
    return InvalidInput(f"column {name!r} must have integers or strings, got {kind}")


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _json_size(payload: dict[str, Any], row: int) -> int:
    """Return what `Items.sizes` has of a payload; InvalidInput names a field that is not JSON."""
    try:
        text = _json(payload)
        return len(text) + _MARK_BYTES * (len(text) - len(text.translate(None, _MARKS)))
    except ValueError:
        for name, value in payload.items():
            try:
                _json(value)
            except ValueError:
                raise InvalidInput(
                    f"column {name!r}, row {row}: a payload takes finite numbers, got {value!r:.80}"
                ) from None
        raise


def _json(value: Any) -> bytes:
    # As the request has it.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _check_payload(schema: Any, names: list[str]) -> None:
    for name in names:
        if schema.names.count(name) != 1:
            hint = suggestion(name, schema.names)
            raise InvalidInput(
                f"expected one column {name!r}{hint}; the columns are {', '.join(schema.names)}"
            )
        if not _is_json(kind := schema.field(name).type):
            raise InvalidInput(
                f"column {name!r} is {kind}; a payload takes text, numbers and booleans, and lists "
                "and structs of these"
            )


def _is_json(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind) or types.is_list(kind) or types.is_large_list(kind):
        return _is_json(kind.value_type)
    if types.is_struct(kind):
        return all(_is_json(field.type) for field in kind)
    plain = (types.is_boolean, types.is_integer, types.is_floating, types.is_null)
    return _is_text(kind) or any(is_kind(kind) for is_kind in plain)
