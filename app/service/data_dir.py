"""The data directory: who may read it, and what killed processes left in it."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import structlog

from hashing.atomic_file import remove_leftovers
from index import InUse

SNAPSHOTS = "snapshots"
DATASETS = "datasets"
# Where the service that owns the directory can be reached. There while it runs.
URL_FILE = "bitcell.db.url"
# Where files are written that have a private name until they are complete.
_WRITTEN = (SNAPSHOTS, DATASETS, f"{DATASETS}/cifar10.partial", "downloads")
# The names that earlier versions gave to snapshots that were not complete.
_OLD_PARTIAL = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}-\d{8}T\d{12}\.snapshot\.(part|\d+\.partial)"
)
_OTHERS = stat.S_IRWXO

log = structlog.stdlib.get_logger("bitcell")


def open_private(data_dir: Path) -> None:
    """Make the data directory if it is missing, and keep what this process makes in it private.

    From now on the files of this process have no permissions for other users, and none for the
    group either, unless the directory passes on its group (the set-group-ID bit): then the group
    keeps them. What an earlier version made is closed to other users, too. The directory itself is
    left as it is if it exists, because it may be shared with something else.
    """
    try:
        shares_group = data_dir.is_dir() and data_dir.stat().st_mode & stat.S_ISGID
        os.umask(0o007 if shares_group else 0o077)
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{data_dir} cannot hold the data: {error}") from None
    for path in (*data_dir.glob("bitcell.db*"), *data_dir.glob("keys.db*"), data_dir / SNAPSHOTS):
        _close_to_others(path)


@contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[None]:
    """Keep other services out of a data directory in which there is no record to lock.

    The lock is the one of a record: raise InUse if a service has that open.
    """
    file = data_dir / "bitcell.db.lock"
    # The thread that closes a service need not be the one that opened it.
    opened = sqlite3.connect(file, isolation_level=None, timeout=0, check_same_thread=False)
    with closing(opened) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise InUse(f"{data_dir} is in use by another process") from None
            raise OSError(f"{file} cannot be locked: {error}") from None
        yield


def note_url(data_dir: Path, url: str) -> None:
    """Note the address of the service that owns the data directory, for commands."""
    try:
        (data_dir / URL_FILE).write_text(f"{url}\n")
    except OSError as error:  # Such as a full disk. Commands can be given the address.
        log.warning("the address of the service cannot be noted", error=str(error))


def forget_url(data_dir: Path) -> None:
    """Delete the note, as the service stops."""
    try:
        (data_dir / URL_FILE).unlink(missing_ok=True)
    except OSError as error:
        log.warning("the address of the service is still noted", error=str(error))


def noted_url(data_dir: Path) -> str | None:
    """Return the address of the service that owns the data directory, None if there is no note."""
    try:
        url = (data_dir / URL_FILE).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return url if url.startswith("http://") else None


def _close_to_others(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return  # SQLite may delete its files at any moment.
    is_ours = found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode)
    if is_ours and found.st_mode & _OTHERS:
        try:
            path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
        except OSError as error:  # Some file systems of other machines have no permissions.
            log.warning("a file cannot be closed to other users", path=path, error=str(error))


def remove_partial_files(data_dir: Path) -> None:
    """Remove incomplete files that killed processes left. Only those who own the data call this.

    Files that living processes write are locked, so that replicas may share the folder.

    A download of `bitcell data` stays: the next one resumes it.
    """
    for folder in _WRITTEN:
        remove_leftovers(data_dir / folder)
    for path in (data_dir / SNAPSHOTS).glob("*.snapshot.*"):
        if _OLD_PARTIAL.fullmatch(path.name) and path.is_file():
            path.unlink()
