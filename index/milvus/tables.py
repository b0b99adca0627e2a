"""The tables of the collections in Milvus, in the database that all replicas share."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
)

metadata = MetaData()

# SQLite counts up only what it calls an integer.
_KEY = BigInteger().with_variant(Integer, "sqlite")

collections = Table(
    "index_collections",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=True),
    # In the name of the collection in Milvus, where one of this key may be left from before;
    # 0 before there is one.
    Column("generation", Integer, nullable=False, server_default="1"),
    # Null until the collection is complete.
    Column("name", String(64), unique=True),
    # The name that an incomplete collection will get, and the key of the one that it will replace.
    Column("making", String(64), unique=True),
    Column("replaces", _KEY, unique=True),
    Column("n_bits", Integer, nullable=False),
    Column("encoder", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("descriptor_type", String(8)),
    Column("dimension", Integer),
    Column("next_serial", BigInteger, nullable=False, server_default="0"),
    # The first serial number that no write has got which Milvus has confirmed.
    Column("written", BigInteger, nullable=False, server_default="0"),
    Column("version", BigInteger, nullable=False, server_default="0"),
    # Milvus's time of the last write: readers wait until they see it.
    Column("stamp", BigInteger, nullable=False, server_default="0"),
    # Whether Milvus has left a write unanswered: nobody reads before it is repeated.
    Column("broken", Boolean, nullable=False, server_default=false()),
    Column("follows_patches", Boolean, nullable=False, server_default=false()),
    sqlite_autoincrement=True,
)
"""The collections."""

redo = Table(
    "index_redo",
    metadata,
    Column("id", _KEY, primary_key=True, autoincrement=True),
    Column("collection", _KEY, nullable=False, index=True),
    # "upsert": a request of Milvus. "delete": a JSON list of ids.
    Column("kind", String(8), nullable=False),
    Column("body", LargeBinary, nullable=False),
    # Whether Milvus has confirmed it.
    Column("applied", Boolean, nullable=False, server_default=false()),
    sqlite_autoincrement=True,
)
"""The writes that Milvus may not have on its disk yet, in their order."""

patches = Table(
    "index_patches",
    metadata,
    Column("collection", _KEY, primary_key=True, autoincrement=False),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    # Serial numbers, little-endian int64.
    Column("old", LargeBinary, nullable=False),
)
"""Which items patches have written again."""

dropped = Table(
    "index_dropped",
    metadata,
    Column("physical", String(64), primary_key=True),
)
"""Names of collections in Milvus that are still to be deleted there."""
