"""Where descriptors come from: parquet files, and matrices in other files.

Both are read a batch of rows at a time. Nothing depends on how many rows there are but the list of
row groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.datasets import parquet, vectors
from app.datasets.dataset import BadDataset
from bitcodes import Codes
from hashing import Hasher
from hashing.arrow import descriptor_column, encode_batch, encode_rows, encoded_schema
from hashing.validation import InvalidInput, as_descriptors, suggestion

FORMATS = "parquet, npy, fvecs, bvecs and ivecs"
_ZIP = b"PK\x03\x04"
# Rows that are read and encoded together, and how many bytes at most, as far as known.
BATCH_ROWS = 8192
BATCH_BYTES = 32 << 20
# Bytes of a column that are read at a time. Otherwise its whole part of a row group is.
_BUFFER = 1 << 16


@dataclass(frozen=True)
class Rows:
    """Rows of a source: a record batch, the number of the first in its file, and where they are."""

    batch: Any
    first: int
    place: str

    def encoded(self, hasher: Hasher, column: str) -> Any:
        """Return the rows with codes in place of descriptors; BadDataset names what is wrong."""
        with named(self.place):
            return encode_batch(hasher, self.batch, column, self.first)


@dataclass(frozen=True)
class Group:
    """A row group of a parquet file, which any machine can read that sees the file.

    Attributes
    ----------
    path : str
    file_size : int
        In bytes, by which another file of that name is told.
    number : int
    first : int
        The number of its first row in the file.
    n_rows : int
    row_bytes : int
        The average bytes of a row in the columns that are read, before compression.
    """

    path: str
    file_size: int
    number: int
    first: int
    n_rows: int
    row_bytes: int

    def __str__(self) -> str:
        return f"{self.path}, row group {self.number}"


@dataclass(frozen=True)
class ParquetSource:
    """Parquet files with the same columns, one after the other.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of the columns that are read.
    column : str
        The column of descriptors.
    dimension : int, or None
        Of the descriptors, if the type of the column says it.
    groups : tuple of Group
    """

    schema: Any
    column: str
    dimension: int | None
    groups: tuple[Group, ...]

    def __len__(self) -> int:
        return sum(group.n_rows for group in self.groups)

    def batches(self, rows: int) -> Iterator[Rows]:
        """Read all rows, at most `rows` at a time."""
        for group in self.groups:
            yield from read_group(group, self.schema, rows)


@dataclass(frozen=True)
class MatrixSource:
    """Descriptors as the rows of a matrix, which is mapped from a file."""

    path: Path
    matrix: NDArray[Any]
    column: str = "descriptors"

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def dimension(self) -> int:
        """The dimension of the descriptors."""
        return int(self.matrix.shape[1])

    def codes(self, hasher: Hasher) -> Iterator[Codes]:
        """Yield packed codes of the rows, which needs no pyarrow."""
        rows = batch_rows(hasher)
        for start in range(0, len(self), rows):
            with named(str(self.path)):
                yield encode_rows(hasher, self.matrix[start : start + rows], start)

    @property
    def schema(self) -> Any:
        """The schema of the batches."""
        return self._batch(0, 0).schema

    def batches(self, rows: int) -> Iterator[Rows]:
        """Read all rows, at most `rows` at a time."""
        for start in range(0, len(self), rows):
            yield Rows(self._batch(start, start + rows), start, str(self.path))

    def _batch(self, start: int, stop: int) -> Any:
        import pyarrow as pa

        rows = self.matrix[start:stop]
        flat = np.ascontiguousarray(rows, rows.dtype.newbyteorder("=")).reshape(-1)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(flat), self.dimension)
        return pa.RecordBatch.from_arrays([lists], [self.column])


Source = ParquetSource | MatrixSource


def open_source(path: Path, column: str | None = None, keep: list[str] | None = None) -> Source:
    """Return the descriptors of a file, or of all `.parquet` files of a folder in order of names.

    Parameters
    ----------
    path : Path
        A file in one of FORMATS, recognised by its content, or a folder.
    column : str, optional
        The column of descriptors in parquet; see `hashing.arrow.encode_batches`.
    keep : list of str, optional
        The other columns to read, by default all.

    Raises
    ------
    BadDataset
        The file has another format or is damaged, pyarrow is missing, a column is missing, or the
        files of a folder have different columns.
    """
    files = parquet_files(path) if path.is_dir() else [path]
    with files[0].open("rb") as file:
        start = file.read(len(vectors.NPY))
    if start.startswith(parquet.MAGIC):
        return _open_parquet(files, column, keep)
    if column is not None or keep is not None:
        raise BadDataset(f"{path} is no parquet, and only that has columns")
    if start.startswith(vectors.NPY):
        matrix = vectors.map_npy(path)
    elif (records := vectors.records_of(path)) is not None:
        matrix = vectors.values_of(records, path, path.name)
    else:
        way = ""
        if start.startswith(_ZIP):
            way = ": if it is an npz file, write its descriptors to an npy file with `np.save`"
        raise BadDataset(
            f"{path} is in no format that is read row by row; these are {FORMATS}{way}"
        )
    with named(str(path)):
        return MatrixSource(path, as_descriptors(matrix))


def parquet_files(folder: Path) -> list[Path]:
    """Return the `.parquet` files of a folder in order of names; BadDataset if it has none."""
    if not (files := sorted(folder.glob("*.parquet"))):
        raise BadDataset(f"{folder} is a folder without files whose names end in .parquet")
    return files


def check_dimension(source: Source, path: Path, hasher: Hasher) -> None:
    """Raise BadDataset, before anything is read, if descriptors have another dimension."""
    expected = hasher.n_features_in_
    if source.dimension not in (None, expected):
        raise BadDataset(
            f"{path} has descriptors of dimension {source.dimension}, and the encoder takes those "
            f"of dimension {expected}"
        )


def read_group(group: Group, schema: Any, rows: int) -> Iterator[Rows]:
    """Read the columns of a schema from a row group, at most `rows` rows at a time.

    Wide rows are read fewer at a time, so that they take about BATCH_BYTES. A column with a
    dictionary may take more in memory than it takes in the file.

    Raises
    ------
    BadDataset
        The file is damaged, or is not the one that `group` was made of.
    """
    first, rows = group.first, rows_of(group.row_bytes, rows)
    with opened(Path(group.path)) as file:
        if (size := Path(group.path).stat().st_size) != group.file_size:
            raise BadDataset(
                f"expected {group.path} to have {group.file_size:,} bytes, got {size:,}: it is "
                "another file, or has changed"
            )
        for batch in file.iter_batches(rows, row_groups=[group.number], columns=schema.names):
            yield Rows(batch.select(schema.names), first, str(group))
            first += len(batch)


def batch_rows(hasher: Hasher) -> int:
    """Return how many rows to read and encode together."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES // (8 * hasher.n_features_in_)))


def rows_of(row_bytes: int, most: int) -> int:
    """Return how many rows of `row_bytes` bytes to read together, at most `most`."""
    return max(1, min(most, BATCH_BYTES // max(1, row_bytes)))


def row_bytes(group: Any, names: list[str]) -> int:
    """Return the average bytes of a row of a row group in these columns, before compression."""
    columns = (group.column(place) for place in range(group.num_columns))
    # The path of a column in a struct or a list starts with the name of the whole.
    heads = tuple(f"{name}." for name in names)
    n_bytes = sum(
        column.total_uncompressed_size
        for column in columns
        if f"{column.path_in_schema}.".startswith(heads)
    )
    return int(n_bytes // max(1, group.num_rows))


def check_pyarrow(path: Path, to: str) -> None:
    """Raise BadDataset if pyarrow is missing, which is needed to read or write a file."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise BadDataset(f"{path} is parquet: to {to} it, `pip install pyarrow`") from None


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a parquet file; BadDataset if it is damaged, or pyarrow is missing."""
    check_pyarrow(path, "read")
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        # With pre_buffer, the columns of a whole row group would be in memory.
        with ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            yield file
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise BadDataset(f"{path} cannot be read as parquet: {error!s:.200}") from None


def _open_parquet(files: list[Path], column: str | None, keep: list[str] | None) -> ParquetSource:
    groups: list[Group] = []
    with opened(files[0]) as file, named(str(files[0])):
        whole = file.schema_arrow.remove_metadata()
        column = descriptor_column(whole, column)
        schema = _kept(whole, column, keep)
    for path in files:
        with opened(path) as file, named(str(path)):
            if not (found := file.schema_arrow.remove_metadata()).equals(whole):
                raise InvalidInput(
                    f"expected the columns of {files[0]}, {shown(whole)}; got {shown(found)}"
                )
            first, size, about = 0, path.stat().st_size, file.metadata
            for number in range(about.num_row_groups):
                group = about.row_group(number)
                width = row_bytes(group, schema.names)
                groups.append(Group(str(path), size, number, first, group.num_rows, width))
                first += group.num_rows
    kind = schema.field(column).type
    return ParquetSource(schema, column, getattr(kind, "list_size", None), tuple(groups))


def _kept(schema: Any, column: str, keep: list[str] | None) -> Any:
    """Return the schema of the columns to read, in the order of the file."""
    import pyarrow as pa

    names = schema.names if keep is None else [column, *keep]
    for name in names:
        if schema.names.count(name) != 1:
            hint = "" if name in schema.names else suggestion(name, schema.names)
            raise InvalidInput(
                f"expected one column {name!r}{hint}; the columns are {shown(schema)}"
            )
    kept = pa.schema([field for field in schema if field.name in names])
    encoded_schema(kept, column, 1)  # Raises if a column has the name of the codes.
    return kept


def shown(schema: Any) -> str:
    """Return the columns of a schema for messages."""
    return f"{', '.join(f'{field.name}: {field.type}' for field in schema):.500}"


@contextmanager
def named(place: str) -> Iterator[None]:
    """Turn InvalidInput into BadDataset that says where."""
    try:
        yield
    except InvalidInput as error:
        raise BadDataset(f"{place}: {error}") from None
