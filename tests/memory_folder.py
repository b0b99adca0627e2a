"""A pytest plugin: temporary files are in memory, where that is possible.

The tests sync thousands of small files to disk. What they prove does not depend on the disk: those
that fill one, or take its power, mount or simulate it. Give --basetemp to keep the files elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")
ROOM = 1 << 30
"""Bytes that must be free. The tests write about 200 MB."""
PREFIX = "bitcell-tests-"
_LOCK = "in-use"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the folder, once for all processes of a run."""
    is_worker = hasattr(config, "workerinput")
    if is_worker or config.option.basetemp or "TMPDIR" in os.environ:
        return
    if (folder := make_folder(MEMORY)) is not None:
        config.add_cleanup(lambda: remove(folder))
        config.option.basetemp = folder / "pytest"
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def make_folder(parent: Path) -> Path | None:
    """Return a new folder, locked until this process ends, or None if there is no room for one.

    Folders of runs that were killed, which nobody locks, are removed.
    """
    try:
        for left in parent.glob(f"{PREFIX}*"):
            remove_unused(left)
        # Some tests run programs that they write. Containers often forbid that here.
        is_forbidden = os.statvfs(parent).f_flag & os.ST_NOEXEC
        if is_forbidden or shutil.disk_usage(parent).free < ROOM:
            return None
        # Another run must not find the folder before it is locked.
        hidden = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
        hidden.chmod(0o711)  # Some tests start processes of other users in folders below it.
        lock = os.open(hidden / _LOCK, os.O_CREAT | os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return hidden.rename(parent / hidden.name[1:])
    except OSError:
        return None


def remove_unused(folder: Path) -> None:
    """Remove a folder unless a process has locked it, or it is of another user."""
    with suppress(OSError):
        lock = os.open(folder / _LOCK, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)
        finally:
            os.close(lock)


def remove(folder: Path) -> None:
    """Remove a folder with what it contains, even if a process that ends still writes there."""
    shutil.rmtree(folder, ignore_errors=True)
