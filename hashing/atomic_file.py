"""Files that appear whole under their name, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


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
        the same file system.
    """
    partial = (folder or path.parent) / f"{path.name}.{os.getpid()}.partial"
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # for the name
        finally:
            os.close(directory)
    finally:
        partial.unlink(missing_ok=True)
