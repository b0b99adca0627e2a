"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, folder: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write that takes the name `path` once the block is done and it is on disk.

    Until then it lies in `folder`, by default beside `path`; it is removed where the block fails.
    """
    partial = (folder or path.parent) / f"{path.name}.{os.getpid()}.partial"
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder_of_name = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder_of_name)
        finally:
            os.close(folder_of_name)
    finally:
        partial.unlink(missing_ok=True)
