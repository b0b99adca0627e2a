"""API keys, in a separate file, so that the command line can change them while a service runs.

Two rules hold whatever happens to the file:

- Once a key has been created in a data directory, its service requires keys, even if all keys are
  revoked or `keys.db` is lost. The file `bitcell.db.keys-required`, which is empty, says so.
- Revoking a key needs no room on the disk. A key is revoked by overwriting a few bytes of its row,
  and SQLite's journal, which protects this against a crash, is a file that already has its size.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

PREFIX = "bitcell_"
READ, WRITE = "read", "write"
FILE = "keys.db"
# It has the name of the record, so that a copy of `bitcell.db*` includes it.
REQUIRED_FILE = "bitcell.db.keys-required"
# Offset of the counter in an SQLite file that every change increments (file format, section
# 1.3.7).
_CHANGE_COUNTER = 24
# How long a writer waits for another one, in seconds.
_PATIENCE = 5.0
# A file that cannot be read for this many seconds is logged. A writer locks it for milliseconds.
_LOG_AFTER = 1.0

_SCHEMA = """CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    created REAL NOT NULL
) STRICT"""
# A revoked key has a scope of dashes until its row is deleted. The text keeps its length, so that
# the row fits where it is.
_REVOKE = "UPDATE keys SET scope = substr('-----', 1, length(scope)) WHERE id = ? AND scope > '-'"
_INSERT = "INSERT INTO keys VALUES (?, ?, ?, ?, ?)"
_DELETE_REVOKED = "DELETE FROM keys WHERE scope LIKE '-%'"

log = structlog.stdlib.get_logger("bitcell")

_Stamp = tuple[tuple[int, int], int, int, bytes]


@dataclass(frozen=True)
class Key:
    """A key without its secret. The scope is `read` or `write`; `write` includes reading."""

    id: str
    name: str
    scope: str
    created: float


class Keys:
    """The keys in `keys.db` of a data directory. Not thread-safe.

    `find`, `any` and `required` look in memory and never wait: they read the file only after it
    has changed. If it cannot be read then, because another process has locked it or because it is
    damaged, the keys known so far stay valid until it can. A file that is missing has no keys.

    Only the SHA-256 of a secret is stored. A secret has 256 random bits, so it cannot be guessed,
    and neither a salt nor a slow hash would add protection.

    The constructor, `create`, `revoke` and `prepare` raise OSError if the file cannot be read or
    written.
    """

    waits = False

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE
        self._required_file = data_dir / REQUIRED_FILE
        self._name = str(self._path)
        self._file: int | None = None
        self._inode = (0, 0)
        self._keys: dict[bytes, Key] = {}
        self._required = False
        self._failing_since: float | None = None
        self._logged = False
        try:
            self._seen = self._stamp()
            self._take(self._read(_PATIENCE))
        except IsADirectoryError:
            self.close()
            raise OSError(f"{self._path} is a folder; expected the file of keys") from None
        except OSError:
            self.close()
            raise

    def create(self, name: str, scope: str) -> tuple[Key, str]:
        """Create a key; return it and its secret, which is not stored and cannot be shown again."""
        key, secret = new_key(name, scope)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        first = not self._required_file.exists()
        try:
            # Before the key: after a crash in between, the service is closed rather than open.
            self._note_required()
            self._path.touch(0o600)
            with self._open(_PATIENCE) as connection:
                # In a transaction of its own, so that the next one journals the pages of the table.
                connection.execute(_SCHEMA)
                with _transaction(connection):
                    connection.execute(_DELETE_REVOKED)
                    row = (key.id, key.name, key.scope, hash_of(secret), key.created)
                    connection.execute(_INSERT, row)
        except OSError:
            if first:
                self._required_file.unlink(missing_ok=True)
            raise
        return key, secret

    def list(self) -> list[Key]:
        """Return all keys, oldest first."""
        self._refresh()
        return list(self._keys.values())

    def hashes(self) -> dict[bytes, Key]:
        """Return all keys by the hashes of their secrets, to copy them."""
        return self._read(_PATIENCE)

    def revoke(self, key: str) -> None:
        """Revoke the key with this id, which needs no room; raise ValueError if there is none."""
        if key not in [known.id for known in self._read(_PATIENCE).values()]:
            raise ValueError(f"there is no key {key!r:.50}")
        try:
            with self._open(_PATIENCE) as connection:
                connection.execute(_REVOKE, (key,))
        except OSError as error:
            raise OSError(
                f"{error}; the key is still valid. To revoke all keys, delete that file"
            ) from error
        # The key is revoked. If there is no room to delete its row, `create` does so later.
        with suppress(OSError), self._open(_PATIENCE) as connection:
            connection.execute(_DELETE_REVOKED)

    def find(self, secret: str) -> Key | None:
        """Return the key with this secret, or None."""
        self._refresh()
        return self._keys.get(hash_of(secret))

    def any(self) -> bool:
        """Return whether there are any keys."""
        self._refresh()
        return bool(self._keys)

    @property
    def required(self) -> bool:
        """Whether a key was ever created here, so that requests need one from then on."""
        if not self._required:
            self._refresh()
        return self._required

    @property
    def was_required(self) -> bool:
        """What `required` was when it was last asked."""
        return self._required

    def prepare(self) -> None:
        """Require keys, and reserve room to revoke them, where an earlier version created them."""
        if self._keys:
            self._note_required()
            self._reserve_journal()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _refresh(self) -> None:
        """Read the keys again if the file has changed. Every request calls this."""
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._take(self._read(timeout=0))
                self._seen = stamp
            self._failing_since, self._logged = None, False
        except OSError as error:
            self._note_failure(error)

    def _stamp(self) -> _Stamp | None:
        """Return what differs after every change of the file, or None if there is no file."""
        try:
            status = os.stat(self._name)  # noqa: PTH116 - Path.stat takes twice as long.
        except FileNotFoundError:
            return None
        inode = status.st_dev, status.st_ino
        if self._file is None or inode != self._inode:
            # Keep the file open: closing it would release the locks that SQLite holds on it.
            self.close()
            self._file = os.open(self._name, os.O_RDONLY | os.O_CLOEXEC)
            self._inode = inode
        # SQLite's counter tells apart changes within one tick of the clock of the file system.
        counter = os.pread(self._file, 4, _CHANGE_COUNTER)
        return inode, status.st_size, status.st_mtime_ns, counter

    def _read(self, timeout: float) -> dict[bytes, Key]:
        if not self._path.exists():
            return {}
        with self._open(timeout) as connection:
            tables = "SELECT 1 FROM sqlite_schema WHERE name = 'keys'"
            if not connection.execute(tables).fetchall():
                return {}
            rows = connection.execute(
                "SELECT hash, id, name, scope, created FROM keys WHERE scope IN (?, ?) "
                "ORDER BY created",
                (READ, WRITE),
            ).fetchall()
        return {digest: Key(*row) for digest, *row in rows}

    def _take(self, keys: dict[bytes, Key]) -> None:
        if self._keys and not keys:
            log.warning(
                "there is no API key left: every request that needs one is refused until you "
                "create one with `bitcell keys create NAME --write`"
            )
        self._keys = keys
        self._required = self._required or bool(keys) or self._required_file.exists()

    def _note_failure(self, error: OSError) -> None:
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if not self._logged and now - self._failing_since >= _LOG_AFTER:
            log.warning(
                "keys.db: the keys known so far stay valid until it can be read", error=str(error)
            )
            self._logged = True

    def _note_required(self) -> None:
        if self._required_file.exists():
            return
        self._required_file.touch(0o600)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _reserve_journal(self) -> None:
        """Give SQLite's journal the size that revoking a key needs, as `create` does.

        The journal keeps its size after a transaction, also after one that is rolled back. Revoking
        changes two pages, the first one and that of the row. Inserting a row changes three, those
        of the row and of two indexes, and then the first one.
        """
        with self._open(_PATIENCE) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_INSERT, ("", "", "", b"", 0.0))
            connection.execute("ROLLBACK")

    @contextmanager
    def _open(self, timeout: float) -> Iterator[sqlite3.Connection]:
        """Open the file, which exists; raise OSError for every error of SQLite in the block."""
        try:
            with closing(
                sqlite3.connect(
                    f"{self._path.absolute().as_uri()}?mode=rw",
                    uri=True,
                    isolation_level=None,
                    timeout=timeout,
                )
            ) as connection:
                # At the end of a transaction the journal is kept, rather than deleted.
                connection.execute("PRAGMA journal_mode = PERSIST")
                yield connection
        except sqlite3.Error as error:
            raise OSError(f"cannot read or write {self._path}: {error}") from error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def new_key(name: str, scope: str) -> tuple[Key, str]:
    """Return a key that is not stored yet, and its secret."""
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise ValueError(f"a key's name has 1 to 100 printable characters, got {name!r:.80}")
    key = Key(secrets.token_hex(4), name, scope, time.time())
    return key, PREFIX + secrets.token_urlsafe(32)


def hash_of(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()
