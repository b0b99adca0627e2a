"""Room on the disk: a reserve that stays free, and what snapshots and datasets may take in all.

The reserve is for what must work on a full disk too: deleting, revoking keys, recording how jobs
ended. Everything that may write much asks here first.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

from app.jobs.kind import Progress
from app.service.data_dir import DATASETS, SNAPSHOTS
from app.service.settings import Settings
from index import Full

# On a small file system, this share of it is the reserve.
_LARGEST_SHARE = 1 / 20
# A file is measured against the disk and the others of its kind whenever it has grown by this much.
_STEP = 4 << 20


def check_room(settings: Settings, needed: int = 0) -> None:
    """Raise Full if less than the reserve would be free after writing `needed` bytes."""
    for folder in {settings.data_dir, settings.files_dir}:
        _check_disk(folder, settings, needed)


def _check_disk(folder: Path, settings: Settings, needed: int) -> None:
    disk = shutil.disk_usage(folder)
    reserve = min(settings.disk_reserve, int(disk.total * _LARGEST_SHARE))
    if disk.free - needed < reserve:
        written = f" after {needed:,} more bytes" if needed else ""
        raise Full(
            f"{disk.free:,} bytes are free on the disk of the data directory; at least "
            f"{reserve:,} must be{written}, so that deleting still works (BITCELL_DISK_RESERVE). "
            "Make room and try again; nothing of this request was kept"
        )


def checking_room(settings: Settings, progress: Progress) -> Progress:
    """Return a `progress` that raises Full when less than the reserve is free."""

    def report(done: int, of: int, now: str) -> None:
        check_room(settings)
        progress(done, of, now)

    return report


class LimitedFile:
    """A new file that raises Full before the files of its folder or the disk reach their limits.

    The folder is `snapshots` or `datasets` of the data directory.
    """

    def __init__(self, file: BinaryIO, settings: Settings, folder: str = SNAPSHOTS) -> None:
        self._folder = folder
        limits = {SNAPSHOTS: settings.max_snapshots, DATASETS: settings.max_datasets}
        self._limit = int(limits[folder])
        self._file = file
        self._settings = settings
        self._size = 0
        self._next_look = 0
        self._others = 0

    def write(self, data: bytes) -> int:
        """Write bytes, or raise Full."""
        self._size += len(data)
        if self._size > self._next_look:
            self._next_look = self._size + _STEP
            check_room(self._settings, len(data))
            folder = self._settings.files_dir / self._folder
            self._others = _size_of_files(folder, Path(self._file.name).name)
        if self._others + self._size > self._limit:
            raise Full(
                f"the {self._folder} would take more than {self._limit:,} bytes, which is the "
                f"limit (BITCELL_MAX_{self._folder.upper()}); the others take {self._others:,}. "
                "Move or delete some; nothing was written"
            )
        return self._file.write(data)


def _size_of_files(folder: Path, left_out: str) -> int:
    """Return the bytes of the files in a folder, except one."""
    size = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.name != left_out and entry.is_file(follow_symlinks=False):
                    size += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # It was moved or deleted meanwhile.
    return size
