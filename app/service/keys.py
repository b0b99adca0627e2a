"""API keys, in a file of their own that the command line can write while a service runs."""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

PREFIX = "bitcell_"
READ, WRITE = "read", "write"
# Where SQLite's file format keeps a counter that every change of the file raises (section 1.3.7).
_CHANGES = 24

_SCHEMA = """CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    created REAL NOT NULL
) STRICT"""


@dataclass(frozen=True)
class Key:
    """A key, without its secret: `scope` is `read` or `write`, which includes reading."""

    id: str
    name: str
    scope: str
    created: float


class Keys:
    """The keys in `keys.db` of a data directory. For one thread at a time.

    Of a key only the SHA-256 is kept. It has 256 random bits, so neither salt nor a slow hash
    would add anything: those are against guessing.
    """

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        path = data_dir / "keys.db"
        if not path.exists():
            path.touch(0o600)
        self._connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=5
        )
        self._connection.execute(_SCHEMA)
        # Open as long as the connection: to close a file drops the locks that SQLite has on it.
        self._file = os.open(path, os.O_RDONLY)
        self._changes: bytes | None = None
        self._any = False

    def create(self, name: str, scope: str) -> tuple[Key, str]:
        """A new key and its secret, which is shown now and never again."""
        if not 1 <= len(name) <= 100 or not name.isprintable():
            raise ValueError(f"a key's name has 1 to 100 printable characters, got {name!r:.80}")
        secret = PREFIX + secrets.token_urlsafe(32)
        key = Key(secrets.token_hex(4), name, scope, time.time())
        self._connection.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?)",
            (key.id, key.name, key.scope, _hash(secret), key.created),
        )
        return key, secret

    def list(self) -> list[Key]:
        """All keys, the oldest first."""
        rows = self._connection.execute(
            "SELECT id, name, scope, created FROM keys ORDER BY created"
        )
        return [Key(*row) for row in rows]

    def revoke(self, key: str) -> None:
        """Take back the key of an id; ValueError where there is none."""
        if self._connection.execute("DELETE FROM keys WHERE id = ?", (key,)).rowcount == 0:
            raise ValueError(f"there is no key {key!r:.50}")

    def find(self, secret: str) -> Key | None:
        """The key of a secret."""
        row = self._connection.execute(
            "SELECT id, name, scope, created FROM keys WHERE hash = ?", (_hash(secret),)
        ).fetchone()
        return Key(*row) if row else None

    def any(self) -> bool:
        """Whether there are any: asked at each request, so the file is, where it has changed."""
        changes = os.pread(self._file, 4, _CHANGES)
        if changes != self._changes:
            row = self._connection.execute("SELECT EXISTS (SELECT 1 FROM keys)").fetchone()
            self._any, self._changes = bool(row[0]), changes
        return self._any

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        os.close(self._file)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
