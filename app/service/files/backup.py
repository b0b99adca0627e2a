"""A copy of a whole data directory, made while a service may be writing to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from app.service.data_dir import SNAPSHOTS
from app.service.keys import FILE as KEYS
from app.service.keys import REQUIRED_FILE
from hashing.atomic_file import is_partial

RECORD = "bitcell.db"
# Temporary files of jobs are made again, and a download that is not complete is resumed elsewhere.
_FOLDERS = (SNAPSHOTS, "datasets", "downloads")
_INCOMPLETE = ".partial"
# How long to wait for a command that changes keys, in seconds.
_PATIENCE = 5.0
# Pages of 4 KiB that are copied between two calls of `progress`.
_PAGES = 4096
_MIB = 1 << 20

Progress = Callable[[int, int, str], None]


def back_up(data_dir: Path, target: Path, progress: Progress = lambda *_: None) -> tuple[int, int]:
    """Copy a data directory to a new directory; return the numbers of files and of bytes.

    Every write that was acknowledged before the call is in the copy, and every later one as a whole
    or not at all. The service goes on, and its writes do not wait. The copy is itself a data
    directory, private to the user who made it. If the call fails, there is no copy.

    Parameters
    ----------
    data_dir : Path
        It has a `bitcell.db`.
    target : Path
        Does not exist, or is an empty folder; not inside `data_dir`.
    progress : callable
        Called with the MiB copied, those in all, and what is being copied.

    Raises
    ------
    ValueError
        The target cannot be used, or what was to be copied is damaged.
    OSError
        A file cannot be read or written, or the disk has no room.
    """
    _check_target(data_dir, target)
    _check_room(data_dir, target)
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name}.", suffix=".bitcell-partial", dir=target.parent
    ) as folder:
        # In this order: what a row of the record refers to is copied after it, and the file that
        # says that keys are required is made before the first key.
        made = Path(folder) / "data"
        made.mkdir(0o700)
        for name in (RECORD, KEYS):
            if (data_dir / name).is_file():
                _copy_database(data_dir / name, made / name, progress)
        if (data_dir / REQUIRED_FILE).is_file():
            (made / REQUIRED_FILE).touch()
        for path in _files(data_dir):
            progress(0, 1, str(path.relative_to(data_dir)))
            _copy_file(path, made / path.relative_to(data_dir))
        copied = [path for path in made.rglob("*") if path.is_file()]
        n_bytes = sum(path.stat().st_size for path in copied)
        for path in (*made.rglob("*"), made):
            _sync(path)
        made.rename(target)
        _sync(target.parent)
    return len(copied), n_bytes


def _check_target(data_dir: Path, target: Path) -> None:
    if not target.parent.is_dir():
        raise ValueError(f"there is no folder {target.parent}")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ValueError(f"{target} is a file: give the name of a new folder")
    if target.is_dir() and any(target.iterdir()):
        raise ValueError(f"{target} is not empty: give the name of a new folder")
    if target.resolve().is_relative_to(data_dir.resolve()):
        raise ValueError(f"{target} is inside {data_dir}, of which it is to be a copy")


def _check_room(data_dir: Path, target: Path) -> None:
    paths = [data_dir / RECORD, data_dir / f"{RECORD}-wal", *_files(data_dir)]
    needed = sum(path.stat().st_size for path in paths if path.exists())
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise OSError(f"the copy needs {needed:,} bytes, and {free:,} are free in {target.parent}")


def _files(data_dir: Path) -> Iterator[Path]:
    """Yield the complete files of the data directory that are no databases."""
    for folder in _FOLDERS:
        for path in sorted((data_dir / folder).rglob("*")):
            parts = path.relative_to(data_dir).parts
            if path.is_file() and not any(
                is_partial(part) or part.endswith(_INCOMPLETE) for part in parts
            ):
                yield path


def _copy_file(source: Path, target: Path) -> None:
    """Copy a file, unless it has just been deleted. Its permissions are those of a new file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)


def _copy_database(source: Path, target: Path, progress: Progress) -> None:
    try:
        with closing(connect(source)) as old, closing(sqlite3.connect(target)) as new:
            # The transaction holds on to one state: without it, each write of the service would
            # make the copy begin again.
            old.execute("BEGIN")
            old.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            new.execute("PRAGMA synchronous = OFF")  # All files are synced at the end.

            def report(status: int, left: int, of: int) -> None:
                size = 4096 * of // _MIB + 1
                progress(size - 4096 * left // _MIB, size, source.name)

            old.backup(new, pages=_PAGES, progress=report, sleep=0)
        with closing(connect(target, "ro", immutable=1)) as copy:
            (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise OSError(f"{source} cannot be copied: {error}") from None
    if found != "ok":
        found = " ".join(found.replace("*** in database main ***", "").split())
        raise ValueError(f"{source} is damaged: {found}; nothing was kept of the copy")


def connect(path: Path, mode: str = "rw", **more: int) -> sqlite3.Connection:
    """Open a database of the data directory, which a running service may have open as well.

    The mode is `rw` even for reading, which may have to complete what a killed service left.
    """
    options = "".join(f"&{name}={value}" for name, value in more.items())
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}{options}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_PATIENCE)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
