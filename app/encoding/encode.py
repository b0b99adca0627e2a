"""Encode a file of descriptors into a file of codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from app.encoding.codes_file import metadata_of, write_codes
from app.encoding.sources import MatrixSource, Source, batch_rows, check_pyarrow
from bitcodes import code_size
from hashing import Hasher
from hashing.arrow import CODE, codes_of, encoded_schema
from hashing.atomic_file import atomic_write
from hashing.progress import Progress

T = TypeVar("T")
B = TypeVar("B", bound=Sized)
Encoded = Callable[[Hasher, Source], Iterator[Any]]
"""Returns record batches with codes in place of descriptors, in the order of the source."""


def encode_here(hasher: Hasher, source: Source) -> Iterator[Any]:
    """Encode on this machine, while the next rows are read."""
    for rows in _ahead(source.batches(batch_rows(hasher))):
        yield rows.encoded(hasher, source.column)


def encode_file(
    hasher: Hasher,
    source: Source,
    out: Path,
    progress: Progress,
    encoded: Encoded = encode_here,
) -> int:
    """Write the codes of a source to a file and return how many there are.

    The file appears as a whole or not at all. Memory is bounded, whatever the number of rows: only
    an `.npy` file has its codes collected first.

    Parameters
    ----------
    hasher : Hasher
    source : Source
    out : Path
        Whose name ends in `.parquet`, for the codes with the other columns of the source, or in
        `.npy`, for packed codes alone.
    progress : callable
    encoded : callable
        Encodes the source: here, or on a cluster.
    """
    if out.suffix == ".npy":
        if isinstance(source, MatrixSource) and encoded is encode_here:
            blocks = source.codes(hasher)
        else:
            blocks = (codes_of(batch.column(CODE)) for batch in encoded(hasher, source))
        empty = np.empty((0, code_size(hasher.n_bits)), np.uint8)
        codes = np.concatenate([empty, *_followed(blocks, len(source), progress)])
        with atomic_write(out) as file:
            np.save(file, codes)
        return len(codes)
    check_pyarrow(out, "write")
    batches = _followed(encoded(hasher, source), len(source), progress)
    schema = encoded_schema(source.schema, source.column, hasher.n_bits)
    with atomic_write(out) as file:
        return write_codes(file, schema.with_metadata(metadata_of(hasher)), batches)


def _followed(batches: Iterable[B], total: int, progress: Progress) -> Iterator[B]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        progress(done, total, "encoding")


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items, of which the next is made in a thread meanwhile."""
    nothing: Any = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, nothing)
        while (item := coming.result()) is not nothing:
            coming = pool.submit(next, items, nothing)
            yield item
