"""Files that appear whole under their name, or not at all.

Until a file is complete it has a private name, and its writer holds a lock on it. What a killed
writer left behind is known by both: it has such a name, and nobody locks it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_SUFFIX = ".bitcell-partial"


@contextmanager
def atomic_write(path: Path, folder: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the name `path` when the block ends without an error.

    The data and the name are on disk when this returns; a file that was at `path` is replaced. If
    the block raises, nothing changes at `path`.

    Parameters
    ----------
    path : Path
    folder : Path, optional
        Where to put the file until it is complete: by default the folder of `path`. It must be on
        the same file system. What killed writers left there is removed.
    """
    folder = folder or path.parent
    remove_leftovers(folder)
    # Opened first: nothing but the disk can fail once the file has its name.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        with temporary_file(folder) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            # Before the lock is released, so that the file is never taken for a leftover.
            Path(file.name).replace(path)
        os.fsync(directory)  # for the name
    finally:
        os.close(directory)


@contextmanager
def temporary_file(folder: Path, prefix: str = ".") -> Iterator[BinaryIO]:
    """Open a new file under a private name, which begins with `prefix`, and delete it afterwards.

    If the process is killed, `remove_leftovers` deletes the file.
    """
    while True:
        path = folder / f"{prefix}{secrets.token_hex(8)}{_SUFFIX}"
        with path.open("xb") as file:
            try:
                # A cleaner that came before the lock deletes the file, or has done so.
                if _lock(file.fileno()) is not False and os.fstat(file.fileno()).st_nlink:
                    yield file
                    return
            finally:
                path.unlink(missing_ok=True)


def is_partial(name: str) -> bool:
    """Return whether a file name is that of a file that is not complete."""
    return name.endswith(_SUFFIX)


def remove_leftovers(folder: Path) -> None:
    """Remove the files that killed writers left in a folder, if it exists."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if is_partial(entry.name) and entry.is_file(follow_symlinks=False):
                # Another cleaner may be faster; in a shared folder, some files belong to others.
                with suppress(FileNotFoundError, PermissionError):
                    _remove_unless_locked(entry.path)


def _remove_unless_locked(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _lock(descriptor):
            os.unlink(path)  # noqa: PTH108
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock a file; return False if somebody else has locked it, None if that is not possible."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
