"""API keys, in a separate file, so that the command line can change them while a service runs."""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "bitcell_"
READ, WRITE = "read", "write"
# Offset of the counter in an SQLite file that every change increments (file format, section
# 1.3.7).
_CHANGE_COUNTER = 24

_SCHEMA = """CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    created REAL NOT NULL
) STRICT"""


@dataclass(frozen=True)
class Key:
    """A key without its secret. The scope is `read` or `write`; `write` includes reading."""

    id: str
    name: str
    scope: str
    created: float


class Keys:
    """The keys in `keys.db` of a data directory. Not thread-safe.

    Only the SHA-256 of a secret is stored. A secret has 256 random bits, so it cannot be guessed,
    and neither a salt nor a slow hash would add protection.

    Every method raises OSError if the file cannot be read or written.
    """

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self._path = path = data_dir / "keys.db"
        if not path.exists():
            path.touch(0o600)
        # Keep the file open as long as the connection: closing it would release SQLite's locks.
        self._file = os.open(path, os.O_RDONLY)
        self._connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=5
        )
        try:
            self._execute(_SCHEMA)
        except OSError:
            self.close()
            raise
        self._seen_counter: bytes | None = None
        self._any = False

    def create(self, name: str, scope: str) -> tuple[Key, str]:
        """Create a key; return it and its secret, which is not stored and cannot be shown again."""
        if not 1 <= len(name) <= 100 or not name.isprintable():
            raise ValueError(f"a key's name has 1 to 100 printable characters, got {name!r:.80}")
        secret = PREFIX + secrets.token_urlsafe(32)
        key = Key(secrets.token_hex(4), name, scope, time.time())
        self._execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?)",
            (key.id, key.name, key.scope, _hash(secret), key.created),
        )
        return key, secret

    def list(self) -> list[Key]:
        """Return all keys, oldest first."""
        rows = self._execute("SELECT id, name, scope, created FROM keys ORDER BY created")
        return [Key(*row) for row in rows]

    def revoke(self, key: str) -> None:
        """Revoke the key with this id; raise ValueError if there is none."""
        if not self._execute("DELETE FROM keys WHERE id = ? RETURNING id", (key,)):
            raise ValueError(f"there is no key {key!r:.50}")

    def find(self, secret: str) -> Key | None:
        """Return the key with this secret, or None."""
        rows = self._execute(
            "SELECT id, name, scope, created FROM keys WHERE hash = ?", (_hash(secret),)
        )
        return Key(*rows[0]) if rows else None

    def any(self) -> bool:
        """Return whether there are any keys.

        Every request calls this, so it queries the database only after its counter of changes has
        moved.
        """
        counter = os.pread(self._file, 4, _CHANGE_COUNTER)
        if counter != self._seen_counter:
            self._any = bool(self._execute("SELECT 1 FROM keys LIMIT 1"))
            self._seen_counter = counter
        return self._any

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        os.close(self._file)

    def _execute(self, sql: str, values: tuple[Any, ...] = ()) -> Sequence[tuple[Any, ...]]:
        """Execute a statement and return its rows."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise OSError(f"cannot read or write {self._path}: {error}") from error


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
