"""Parquet files of codes: how they are written, and what they say about their codes.

The column `code` is fixed-size binary. The metadata of the schema has one entry, `bitcell`: a JSON
object with `format`, `n_bits`, and `fingerprint` and `method` of the encoder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

from hashing import Hasher
from hashing.arrow import CODE
from hashing.validation import InvalidInput, check_int

FORMAT = 1
KEY = b"bitcell"
# A row group is written when it has at least this many rows, or bytes.
GROUP_ROWS = 1 << 17
GROUP_BYTES = 32 << 20


@dataclass(frozen=True)
class About:
    """What a file says about its codes.

    Attributes
    ----------
    n_bits : int, or None
        None if the file does not say it.
    fingerprint : str, or None
        Of the encoder; None if the file does not say it.
    """

    n_bits: int | None = None
    fingerprint: str | None = None


def metadata_of(hasher: Hasher) -> dict[bytes, bytes]:
    """Return the metadata of a file of codes of an encoder."""
    about = {
        "format": FORMAT,
        "n_bits": hasher.n_bits,
        "fingerprint": hasher.fingerprint,
        "method": hasher.method,
    }
    return {KEY: json.dumps(about, sort_keys=True).encode()}


def read_about(schema: Any) -> About:
    """Return what the metadata of a schema says.

    Raises
    ------
    InvalidInput
        It is damaged, or of a newer format.
    """
    if (text := (schema.metadata or {}).get(KEY)) is None:
        return About()
    try:
        found = json.loads(text)
        check_int("format", found["format"], 1, 2**31)
        if found["format"] > FORMAT:
            raise InvalidInput(
                f"the codes are in format {found['format']}, and {FORMAT} is the newest known"
            )
        check_int("n_bits", found["n_bits"], 1, 2**31)
        return About(found["n_bits"], str(found["fingerprint"]))
    except InvalidInput:
        raise
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InvalidInput(
            f"the metadata {KEY.decode()!r} must be a JSON object with format, n_bits and "
            f"fingerprint, got {text!r:.200} ({type(error).__name__})"
        ) from None


def _paths(schema: Any) -> list[str]:
    """Return the columns as parquet names them: `tags.list.element`, for instance."""
    from pyarrow.parquet import ParquetFile, ParquetWriter

    file = BytesIO()
    ParquetWriter(file, schema).close()
    columns = ParquetFile(file).schema
    return [columns.column(place).path for place in range(len(columns))]


def write_codes(file: BinaryIO, schema: Any, batches: Iterable[Any]) -> int:
    """Write record batches to a parquet file and return how many rows they have.

    The bytes depend on the batches alone, and not on when they come.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    # Codes are as good as random: neither a dictionary nor compression makes them smaller.
    others = [path for path in _paths(schema) if path != CODE]
    total = n_rows = n_bytes = 0
    waiting: list[Any] = []
    # Whether a page is full is checked after each batch of rows. Wide rows need small batches.
    with ParquetWriter(file, schema, use_dictionary=others, write_batch_size=128) as writer:

        def flush() -> None:
            if waiting:
                table = pa.Table.from_batches(waiting, schema)
                writer.write_table(table, max(1, len(table)))
                waiting.clear()

        for batch in batches:
            waiting.append(batch.replace_schema_metadata(schema.metadata))
            total, n_rows, n_bytes = total + len(batch), n_rows + len(batch), n_bytes + batch.nbytes
            if n_rows >= GROUP_ROWS or n_bytes >= GROUP_BYTES:
                flush()
                n_rows = n_bytes = 0
        flush()
    return total
