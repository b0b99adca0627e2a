"""Files that are downloaded and uploaded as they are read, without being in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from bitcell_client.connection import fill_path

SNAPSHOT = "/v1/snapshots/{snapshot}"
DATASET = "/v1/datasets/{dataset}"
_PART = 1 << 20
# The ends of names that say what the values of a dataset are, which its content does not.
_KEPT = (".fvecs", ".ivecs")


def snapshot_path(name: str) -> str:
    """Return the path of a snapshot in the API."""
    return fill_path(SNAPSHOT, {"snapshot": name})


def dataset_path(file: str | PathLike[str], name: str | None) -> str:
    """Return the path of a dataset in the API; its name is by default that of the file."""
    path = Path(file)
    stem = path.name if path.suffix in _KEPT else path.stem
    return fill_path(DATASET, {"dataset": stem if name is None else name})


@contextmanager
def written(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that has the name `path` only if the block ends without an error."""
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def parts(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file, a part at a time."""
    while part := file.read(_PART):
        yield part


def headers_for(path: str | PathLike[str]) -> dict[str, str]:
    """Return the headers to upload a file with."""
    size = Path(path).stat().st_size
    return {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
