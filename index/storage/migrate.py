"""Migration of earlier databases.

Version 1 has one row per item. Version 2 keeps descriptors as float16 only, and up to version 3 all
collections rank by the Hamming distance, so that only the table of collections gets a column.
"""

from __future__ import annotations

import sqlite3

import numpy as np

from bitcodes import code_size, to_words
from index.memory.batch import NO_LABEL, Batch
from index.memory.ids import pack
from index.storage.database import VERSION, Database
from index.storage.record import Record

_CHUNK = 1 << 16
_NEW_COLUMNS = ("keep_descriptors", "items", "next_serial", "metric")


def add_columns(connection: sqlite3.Connection) -> None:
    """Give the table of collections, if there is one, the columns of later versions."""
    columns = {row[1] for row in connection.execute("PRAGMA table_info(collections)")}
    for column in _NEW_COLUMNS:
        if columns and column not in columns:
            connection.execute(
                f"ALTER TABLE collections ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0"
            )


def move_items(database: Database, connection: sqlite3.Connection) -> None:
    """Move the items to the tables of later versions.

    The tables must exist. `add_columns`, this and what is between must be in one transaction.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if "items" in tables:
        collections = connection.execute("SELECT key, n_bits FROM collections").fetchall()
        for key, n_bits in collections:
            _move_items_of(database, connection, key, n_bits)
        connection.execute("DROP TABLE items")


def set_version(connection: sqlite3.Connection) -> None:
    """Set the version to the newest, so that earlier versions of Bitcell refuse the database."""
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _move_items_of(
    database: Database, connection: sqlite3.Connection, key: int, n_bits: int
) -> None:
    record, size = Record(database, key, n_bits), code_size(n_bits)
    items = connection.execute(
        "SELECT id, code, label, payload FROM items WHERE collection = ? ORDER BY id", (key,)
    )
    while rows := items.fetchmany(_CHUNK):
        ids, codes, labels, payloads = zip(*rows, strict=True)
        data, lengths = pack(ids)
        packed = np.frombuffer(b"".join(codes), np.uint8).reshape(-1, size)
        column = np.array([NO_LABEL if label is None else label for label in labels], np.int64)
        batch = Batch(data, lengths, to_words(packed), column, np.empty(0, np.int64))
        record.insert(connection, batch, payloads, None, np.empty(0, np.int64))
