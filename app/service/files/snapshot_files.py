"""The files in `snapshots/` of the data directory: their names, list, upload and deletion."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from unicodedata import category

from app.service.data_dir import SNAPSHOTS
from app.service.room import LimitedFile
from app.service.settings import Settings
from hashing.atomic_file import atomic_write, is_partial
from index import AlreadyExists, BadSnapshot, InvalidItems, NotFound, snapshot

# What file systems allow: `is_file` raises OSError on longer names.
_MAX_NAME = 255


@dataclass(frozen=True)
class SnapshotFile:
    """A snapshot: its file name, its size, and when it was written, in seconds since 1970."""

    snapshot: str
    bytes: int
    created: float


class SnapshotFiles:
    """The snapshot files of a service. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.folder = settings.files_dir / SNAPSHOTS
        self._lock = Lock()
        # Names of files that are being uploaded.
        self._uploading: set[str] = set()

    def path(self, name: str) -> Path:
        """Return the path of a snapshot; raise NotFound if there is none of this name."""
        path = self.folder / name
        if not _is_file_name(name) or not path.is_file():
            raise NotFound(f"there is no snapshot {name!r:.200} in {self.folder}")
        return path

    def complete(self, name: str) -> Path:
        """Return what `path` returns, but never a file that is still being written."""
        if is_partial(name):
            raise NotFound(f"there is no snapshot {name!r:.200} in {self.folder}")
        return self.path(name)

    def list(self) -> list[SnapshotFile]:
        """Return all snapshots, newest first."""
        found = []
        for path in self.folder.glob("*"):
            try:
                found.append(_described(self.complete(path.name)))
            except (NotFound, FileNotFoundError):
                continue  # No snapshot, or deleted at this moment.
        return sorted(found, key=lambda one: (-one.created, one.snapshot))

    def delete(self, name: str) -> None:
        """Delete a snapshot; raise NotFound if there is none of this name."""
        self.complete(name).unlink(missing_ok=True)

    def new(self, collection: str) -> Path:
        """Return a path for a new snapshot of a collection."""
        self.folder.mkdir(exist_ok=True)
        return self.folder / f"{collection}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.snapshot"

    def prune(self, collection: str, keep: int) -> builtins.list[str]:
        """Delete all but the newest `keep` files that `new` named for a collection.

        Returns their names.
        """
        own = re.compile(re.escape(collection) + r"-\d{8}T\d{12}\.snapshot")
        names = sorted(path.name for path in self.folder.glob("*") if own.fullmatch(path.name))
        removed = names[:-keep]
        for name in removed:
            (self.folder / name).unlink(missing_ok=True)
        return removed

    @contextmanager
    def receiving(self, name: str) -> Iterator[LimitedFile]:
        """Open a new snapshot for writing; check it at the end of the block.

        Only then it has its name. If the block or the check raises, nothing of it is left.

        Raises
        ------
        InvalidItems
            A file cannot have this name.
        AlreadyExists
            There is such a snapshot.
        BadSnapshot
            What was written is no snapshot, or is damaged.
        Full
            The disk has no room, or the snapshots take too much.
        """
        if not _is_file_name(name) or is_partial(name):
            raise InvalidItems(
                f"the name of a snapshot has at most {_MAX_NAME} bytes, no slash, no control "
                f"character and no dot in front; got {name!r:.80}"
            )
        with self._lock:
            if name in self._uploading or (self.folder / name).exists():
                raise AlreadyExists(f"there is already a snapshot {name!r}")
            self._uploading.add(name)
        try:
            self.folder.mkdir(exist_ok=True)
            with atomic_write(self.folder / name) as file:
                yield LimitedFile(file, self._settings)
                file.flush()
                try:
                    snapshot.check(Path(file.name))
                except BadSnapshot as error:
                    raise BadSnapshot(str(error).replace(file.name, name)) from None
        finally:
            with self._lock:
                self._uploading.discard(name)

    def describe(self, name: str) -> SnapshotFile:
        """Return one snapshot; raise NotFound if there is none of this name."""
        return _described(self.complete(name))


def _described(path: Path) -> SnapshotFile:
    found = path.stat()
    return SnapshotFile(path.name, found.st_size, found.st_mtime)


def _is_file_name(name: str) -> bool:
    """Return whether a name may be that of a file in the folder of snapshots."""
    return (
        not name.startswith(".")
        and "/" not in name
        and not any(category(character).startswith("C") for character in name)
        and 1 <= len(name.encode()) <= _MAX_NAME
    )
