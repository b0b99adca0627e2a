"""The table of collections.

A collection that is being made or has been dropped has a name with a slash, which no caller can
give. Nobody sees such a collection, and its items are deleted in the background. A crash at any
moment therefore leaves a collection either whole or invisible. Keys are never used twice, so that a
new collection cannot get items of a dropped one that had its name.
"""

from __future__ import annotations

import sqlite3
from typing import Literal, NamedTuple
from uuid import uuid4

from index.errors import AlreadyExists

DescriptorType = Literal["float16", "float32"]
"""How descriptors are kept."""
DESCRIPTOR_TYPES: tuple[DescriptorType | None, ...] = (None, "float16", "float32")
"""What the numbers in the column `keep_descriptors` mean."""
Metric = Literal["euclidean", "cosine", "dot"]
"""The distance that is estimated."""
METRICS: tuple[Metric | None, ...] = (None, "euclidean", "cosine", "dot")
"""What the numbers in the column `metric` mean; None where codes are ranked by Hamming distance."""

# Earlier versions delete collections with such names at start, too.
_HIDDEN = "/new"
# Tables of items, with the column that tells the rows of one collection apart.
_ITEMS = (
    ("parts", "first"),
    ("deaths", "key"),
    ("payloads", "serial"),
    ("descriptors", "serial"),
    ("vectors", "serial"),
)


class Row(NamedTuple):
    """A row of the table of collections."""

    key: int
    name: str
    n_bits: int
    encoder: str
    fingerprint: str
    keep_descriptors: int
    metric_number: int

    @property
    def descriptor_type(self) -> DescriptorType | None:
        """How descriptors are kept; None if they are not."""
        return DESCRIPTOR_TYPES[self.keep_descriptors]

    @property
    def metric(self) -> Metric | None:
        """The distance that items are ranked by the estimates of; None for the Hamming distance."""
        return METRICS[self.metric_number]


def visible(connection: sqlite3.Connection) -> list[Row]:
    """Return the collections that are neither being made nor dropped."""
    columns = ", ".join(Row._fields).replace("metric_number", "metric")
    rows = connection.execute(f"SELECT {columns} FROM collections")  # noqa: S608
    return [row for row in map(Row._make, rows) if "/" not in row.name]


def hide_unfinished(connection: sqlite3.Connection) -> list[int]:
    """Hide what a crash left unfinished, and return the keys of all hidden collections."""
    connection.execute(
        "UPDATE collections SET name = '/' || key || ? WHERE name LIKE '%/%'", (_HIDDEN,)
    )
    rows = connection.execute("SELECT key FROM collections WHERE name LIKE '/%'")
    return [key for (key,) in rows]


def insert(
    connection: sqlite3.Connection,
    name: str,
    n_bits: int,
    encoder: str,
    fingerprint: str,
    descriptor_type: DescriptorType | None,
    metric: Metric | None,
    *,
    unfinished: bool,
) -> Row:
    """Insert a collection. An unfinished one is hidden until `rename`.

    Its hidden name is a new one each time, so that the rest of a failed attempt is in nobody's way.
    """
    keep, number = DESCRIPTOR_TYPES.index(descriptor_type), METRICS.index(metric)
    cursor = connection.execute(
        "INSERT INTO collections (name, n_bits, encoder, fingerprint, keep_descriptors, metric) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            f"{name}/{uuid4().hex}{_HIDDEN}" if unfinished else name,
            n_bits,
            encoder,
            fingerprint,
            keep,
            number,
        ),
    )
    if not cursor.rowcount:
        raise AlreadyExists(f"there is already a collection {name!r}")
    return Row(cursor.lastrowid or 0, name, n_bits, encoder, fingerprint, keep, number)


def rename(connection: sqlite3.Connection, key: int, name: str) -> None:
    """Give a collection a name, which makes it visible."""
    connection.execute("UPDATE collections SET name = ? WHERE key = ?", (name, key))


def hide(connection: sqlite3.Connection, key: int) -> None:
    """Drop a collection: free its name, and leave its items to `delete_some`. May be repeated."""
    rename(connection, key, f"/{key}{_HIDDEN}")


def delete_some(connection: sqlite3.Connection, key: int, limit: int) -> bool:
    """Delete up to `limit` rows of a hidden collection; return whether there may be more."""
    for table, column in _ITEMS:
        cursor = connection.execute(
            f"DELETE FROM {table} WHERE collection = ? AND {column} IN "  # noqa: S608
            f"(SELECT {column} FROM {table} WHERE collection = ? LIMIT ?)",
            (key, key, limit),
        )
        if cursor.rowcount:
            return True
    connection.execute("DELETE FROM collections WHERE key = ?", (key,))
    return False
