"""The tables of the database, version 4."""

from __future__ import annotations

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS collections (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        n_bits INTEGER NOT NULL,
        encoder TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        -- 0: no; 1: as float16; 2: as float32, since version 3
        keep_descriptors INTEGER NOT NULL DEFAULT 0,
        -- 0: Hamming distance; 1: estimates of Euclidean distance; 2: of cosine; 3: of dot product
        metric INTEGER NOT NULL DEFAULT 0,
        items INTEGER NOT NULL DEFAULT 0,
        next_serial INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    # Ids, codes and labels of items with ascending serial numbers, beginning with `first`.
    """CREATE TABLE IF NOT EXISTS parts (
        collection INTEGER NOT NULL REFERENCES collections (key) ON DELETE CASCADE,
        first INTEGER NOT NULL,
        n INTEGER NOT NULL,
        data BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (collection, first)
    ) STRICT""",
    # Serial numbers of items that were deleted or replaced but are still in the parts.
    """CREATE TABLE IF NOT EXISTS deaths (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        collection INTEGER NOT NULL REFERENCES collections (key) ON DELETE CASCADE,
        serials BLOB NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS deaths_of ON deaths (collection)",
    """CREATE TABLE IF NOT EXISTS payloads (
        collection INTEGER NOT NULL REFERENCES collections (key) ON DELETE CASCADE,
        serial INTEGER NOT NULL,
        payload TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (collection, serial)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS descriptors (
        collection INTEGER NOT NULL REFERENCES collections (key) ON DELETE CASCADE,
        serial INTEGER NOT NULL,
        vector BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (collection, serial)
    ) STRICT, WITHOUT ROWID""",
    # Descriptors as float32; those as float16 are in the table above. It has a rowid, because a
    # table without one gives each row of more than 1,000 bytes a page of its own.
    """CREATE TABLE IF NOT EXISTS vectors (
        collection INTEGER NOT NULL REFERENCES collections (key) ON DELETE CASCADE,
        serial INTEGER NOT NULL,
        vector BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (collection, serial)
    ) STRICT""",
    # Patches of collections in which they are followed: the serial numbers that items had, and the
    # first of the consecutive ones that they got.
    """CREATE TABLE IF NOT EXISTS drift_patches (
        collection INTEGER REFERENCES collections (key) ON DELETE CASCADE,
        first INTEGER,
        old BLOB NOT NULL,
        PRIMARY KEY (collection, first)
    ) STRICT""",
)
