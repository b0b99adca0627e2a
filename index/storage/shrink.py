"""Return the free pages of the SQLite file to the file system.

The file is in SQLite's mode of incremental vacuum: free pages are cut off in transactions of
chosen size, and a crash between or in them loses nothing. Files that earlier versions made are not
in this mode. They are rewritten once, when they are opened and at least half of them is free.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from pathlib import Path

# Fewer free bytes are left for later writes, and so is less than a tenth of the file.
_LEAST = 1 << 20
_LEAST_SHARE = 0.1
# A file of an earlier version is rewritten, which takes time at start, from this share on.
_REWRITTEN_SHARE = 0.5
_INCREMENTAL = 2

log = logging.getLogger("bitcell")


def choose_mode(connection: sqlite3.Connection) -> None:
    """Let a new file be shrunk later. Call it before anything is written."""
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")


def is_due(connection: sqlite3.Connection, share: float = _LEAST_SHARE) -> bool:
    """Return whether so much of the file is free that it should be shrunk."""
    free, pages, size = (
        _value(connection, name) for name in ("freelist_count", "page_count", "page_size")
    )
    return free * size >= _LEAST and free >= share * pages


def cut_some(connection: sqlite3.Connection, pages: int) -> bool:
    """Cut off up to `pages` free pages, in a transaction; return whether there are more."""
    if _value(connection, "auto_vacuum") != _INCREMENTAL:
        return False
    for _ in range(min(pages, _value(connection, "freelist_count"))):
        # One page each time: the sqlite3 module stops after the first of several.
        connection.execute("PRAGMA incremental_vacuum(1)")
    return _value(connection, "freelist_count") > 0


def rewrite_old(connection: sqlite3.Connection, path: Path) -> None:
    """Rewrite a file of an earlier version if half of it is free and there is room for a copy.

    SQLite does this in one transaction. It writes the data to a temporary file next to `path`, then
    to the log, and from there to the file.
    """
    old = _value(connection, "auto_vacuum") != _INCREMENTAL
    if not old or not is_due(connection, _REWRITTEN_SHARE):
        return
    used = _value(connection, "page_count") - _value(connection, "freelist_count")
    needed = 2 * used * _value(connection, "page_size")
    if shutil.disk_usage(path.parent).free < needed + needed // 10:
        log.warning("%s is half empty, but %s bytes to rewrite it are not free", path, needed)
        return
    log.info("%s is half empty: rewriting it", path)
    folder = str(path.parent.absolute()).replace("'", "''")
    connection.execute(f"PRAGMA temp_store_directory = '{folder}'")
    try:
        connection.execute("VACUUM")
    except sqlite3.OperationalError as error:  # Nothing has changed, so the file can be used.
        log.warning("%s could not be rewritten: %s", path, error)
    finally:
        connection.execute("PRAGMA temp_store_directory = ''")
    empty_log(connection)


def empty_log(connection: sqlite3.Connection) -> None:
    """Bring the file to its size, and empty the log, unless a reader still uses it."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _value(connection: sqlite3.Connection, pragma: str) -> int:
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)
