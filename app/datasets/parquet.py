"""Datasets in parquet files: a column of lists."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.datasets.dataset import BadDataset, Dataset
from app.datasets.npz import from_arrays
from hashing.arrow import LABELS, descriptor_column, matrix
from hashing.validation import InvalidInput

MAGIC = b"PAR1"
_OTHERS = {"labels": LABELS, "ids": ("ids", "id")}
_BATCH_ROWS = 4096
# Items times different labels, if items have several.
_MOST_LABELS = 1 << 30


def read_parquet(path: Path, name: str) -> Dataset:
    """Read the column of descriptors, and if there are such columns, labels and ids.

    A column of lists has the labels of items that may have several.

    The file is read in batches, and nothing is reserved for the number of rows that it states.

    Raises
    ------
    BadDataset
        pyarrow is missing, or the file is damaged.
    InvalidInput
        There is no such column, or its lists have different lengths, nulls, or no numbers.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise BadDataset(f"{path} is parquet: to read it, `pip install pyarrow`") from None
    try:
        with parquet.ParquetFile(path) as file:
            columns = _columns(file.schema_arrow)
            batches = file.iter_batches(_BATCH_ROWS, columns=list(columns.values()))
            arrays = _read(pa, batches, columns)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise BadDataset(f"{path} cannot be read as parquet: {error!s:.200}") from None
    return from_arrays(name, arrays)


def _columns(schema: Any) -> dict[str, str]:
    """Return the column of each array of the dataset."""
    others = {
        array: next((each for each in names if each in schema.names), None)
        for array, names in _OTHERS.items()
    }
    named = descriptor_column(schema)
    return {"descriptors": named} | {key: each for key, each in others.items() if each}


def _read(pa: Any, batches: Any, columns: dict[str, str]) -> dict[str, NDArray[Any]]:
    parts: dict[str, deque[NDArray[Any]]] = {array: deque() for array in columns}
    sets = []
    n, d = 0, None
    for batch in batches:
        for array, column in columns.items():
            values = batch.column(column)
            if values.null_count:
                raise InvalidInput(f"column {column!r} has nulls in rows {n} to {n + len(batch)}")
            if array == "descriptors":
                X = matrix(values, column, d, n)
                d = X.shape[1]
                # What is not finite as float32 is refused later.
                with np.errstate(over="ignore", invalid="ignore"):
                    # A copy: a view would keep the memory of all batches.
                    parts[array].append(np.array(X, np.float32))
            elif array == "labels" and pa.types.is_nested(values.type):
                sets.append(values)
            else:
                plain = values.to_numpy(zero_copy_only=False)
                parts[array].append(plain.astype(np.str_) if plain.dtype == object else plain)
        n += len(batch)
    if d is None:
        raise InvalidInput("the file has no rows")
    return {
        "descriptors": _joined(parts.pop("descriptors"), n, d),
        **(_label_sets(pa.chunked_array(sets), n) if sets else {}),
        **{array: np.concatenate(several) for array, several in parts.items() if several},
    }


def _label_sets(lists: Any, n: int) -> dict[str, NDArray[Any]]:
    """Return which of the labels in lists each item has, and the names of the labels."""
    from pyarrow import compute

    labels = compute.list_flatten(lists)
    if labels.null_count:
        raise InvalidInput("the labels have nulls in their lists")
    names, places = np.unique(labels.to_numpy().astype(np.str_), return_inverse=True)
    if len(names) * n > _MOST_LABELS:
        raise InvalidInput(
            f"{n:,} items with {len(names):,} different labels are too many: keep the most frequent"
        )
    sets = np.zeros((n, len(names)), bool)
    sets[compute.list_parent_indices(lists).to_numpy(), places] = True
    return {"labels": sets, "class_names": names}


def _joined(parts: deque[NDArray[np.float32]], n: int, d: int) -> NDArray[np.float32]:
    """Return the parts one below the other; each is given up as soon as it is copied."""
    matrix, row = np.empty((n, d), np.float32), 0
    while parts:
        part = parts.popleft()
        matrix[row : row + len(part)] = part
        row += len(part)
    return matrix
