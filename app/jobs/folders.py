"""Folders for the files of running jobs, in a private folder of the data directory."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from app.jobs.record import JobRecord

NAME = ".bitcell-jobs"
MARKER = "made-by-bitcell.txt"
_TEXT = "Bitcell creates folders for its running jobs here, and deletes them at every start.\n"
_JOB = re.compile(r"[0-9a-f]{12}")
# Where earlier versions put the folders.
_OLD_NAME = "jobs"

log = structlog.stdlib.get_logger("bitcell")


class JobFolders:
    """One folder for each job that runs.

    A service that was killed leaves such folders behind. `remove_leftovers` deletes them, and
    nothing else: they are in a folder with a marker and have names like those of jobs.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / NAME
        self._old = data_dir / _OLD_NAME

    @contextmanager
    def of(self, job: str) -> Iterator[Path]:
        """Make the folder of a job for the time of the block."""
        self._make()
        folder = self._folder / job
        try:
            folder.mkdir(exist_ok=True)
            yield folder
        finally:
            _remove(folder)

    def remove_leftovers(self, record: JobRecord) -> None:
        """Delete the folders that a killed service left; call it while no job runs.

        Earlier versions put them in `jobs`, which may hold other things as well: there only those
        go that have the name of a job in the record.
        """
        if (self._folder / MARKER).is_file():
            for folder in self._folder.iterdir():
                if _JOB.fullmatch(folder.name):
                    _remove(folder)
        try:
            if self._old.is_dir():
                for folder in self._old.iterdir():
                    if _JOB.fullmatch(folder.name) and record.has(folder.name):
                        _remove(folder)
        except PermissionError as error:  # It is somebody else's.
            log.warning("folder of an earlier version not searched", error=str(error))

    def _make(self) -> None:
        self._folder.mkdir(exist_ok=True)
        if not any(self._folder.iterdir()):
            (self._folder / MARKER).write_text(_TEXT)


def _remove(folder: Path) -> None:
    """Delete a folder; if that fails, log it: the next start tries again."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, onerror=_log)


def _log(function: object, path: str, info: tuple[object, BaseException, object]) -> None:
    log.warning("temporary file of a job not deleted", path=path, error=str(info[1]))
