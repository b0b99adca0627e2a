"""Read items from parquet files of codes: codes, ids, labels and payloads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.datasets import parquet
from app.datasets.dataset import BadDataset
from app.encoding.codes_file import About, read_about
from app.encoding.sources import check_pyarrow, named, opened, parquet_files
from bitcodes import Codes
from hashing.arrow import CODE, LABELS, codes_of
from hashing.validation import InvalidInput, suggestion

_CODES = (CODE, "codes")
_IDS = ("id", "ids")


@dataclass(frozen=True)
class Items:
    """Some items of a file; `labels` and `payloads` are None if the file has none."""

    ids: NDArray[Any]
    codes: Codes
    labels: NDArray[np.int64] | None
    payloads: list[dict[str, Any]] | None
    n_bytes: int


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
        """Read items, up to so many at a time.

        Without a column of ids, the ids are the numbers of the rows over all files.

        Raises
        ------
        BadDataset
            A file is damaged, or has nulls or values that cannot be read as ids or labels.
        """
        others = [name for name in (self.ids, self.label) if name is not None]
        names = list(dict.fromkeys([self.code, *others, *self.payload]))
        classes = self._classes()
        start = 0
        for path in self.files:
            first = 0
            with opened(path) as file:
                for batch in file.iter_batches(rows, columns=names):
                    with named(f"{path}, rows {first} to {first + len(batch) - 1}"):
                        yield self._items(batch, start, classes)
                    first += len(batch)
                    start += len(batch)

    def _items(self, batch: Any, start: int, classes: Any) -> Items:
        ids = np.arange(start, start + len(batch))
        if self.ids is not None:
            ids = _plain(batch.column(self.ids), self.ids)
        labels = None
        if self.label is not None:
            labels = _plain(batch.column(self.label), self.label)
            if classes is not None:
                labels = np.searchsorted(classes, labels)
                # The empty string, for no label, comes first.
                labels -= int(len(classes) > 0 and classes[0] == "")
        payloads = None
        if self.payload:
            rows = batch.select(self.payload).to_pylist()
            payloads = [{name: v for name, v in row.items() if v is not None} for row in rows]
        return Items(ids, codes_of(batch.column(self.code)), labels, payloads, batch.nbytes)

    def _classes(self) -> NDArray[np.str_] | None:
        """Return the names of the classes in sorted order, if the labels are names."""
        from pyarrow import compute

        if self.label is None:
            return None
        found: NDArray[np.str_] = np.empty(0, np.str_)
        for path in self.files:
            with opened(path) as file, named(str(path)):
                for batch in file.iter_batches(columns=[self.label]):
                    some = _plain(compute.unique(batch.column(0)), self.label)
                    if some.dtype.kind != "U":
                        return None
                    found = np.union1d(found, some)
        return found


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
    ids = next((name for name in _IDS if name in first.names), None)
    label = next((name for name in LABELS if name in first.names), None)
    unused = [name for name in first.names if name not in (code, ids, label, *payload)]
    kind = first.field(code).type
    size = kind.byte_width if pa.types.is_fixed_size_binary(kind) else None
    return ItemFiles(files, n_rows, expected, code, size, ids, label, payload, unused)


def _code_column(schema: Any) -> str | None:
    from pyarrow import types

    kinds = (types.is_fixed_size_binary, types.is_binary, types.is_large_binary)
    for name in _CODES:
        if schema.names.count(name) == 1 and any(kind(schema.field(name).type) for kind in kinds):
            return name
    return None


def _plain(column: Any, name: str) -> NDArray[Any]:
    """Return ids or labels as integers or strings."""
    import pyarrow as pa

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
    raise InvalidInput(f"column {name!r} must have integers or strings, got {column.type}")


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
    plain = (types.is_string, types.is_large_string, types.is_boolean, types.is_integer)
    return any(is_kind(kind) for is_kind in (*plain, types.is_floating, types.is_null))
