"""The files in `datasets/` of the data directory: their names, upload, use and deletion."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any

from app.database.state import State
from app.datasets.catalog import BUILT_IN, UPLOADED, UnknownDataset, known_datasets
from app.datasets.dataset import BadDataset
from app.errors import Conflict, Unready
from app.jobs import dataset_check, recommendation
from app.jobs.kind import Task
from app.jobs.process import JobFailed, JobProcess
from app.jobs.queue import Jobs
from app.jobs.theory import explanation
from app.service.data_dir import DATASETS
from app.service.room import LimitedFile
from app.service.settings import Settings
from hashing.atomic_file import atomic_write
from index import AlreadyExists, check_name

AT_ONCE = 2
"""Datasets that may be uploaded at the same time: each is read into memory once."""


@dataclass(frozen=True)
class DatasetFile:
    """A dataset: its name, its size, and when it was written, in seconds since 1970.

    The dataset that comes with the service has neither size nor time.
    """

    dataset: str
    bytes: int | None
    created: float | None


@dataclass(frozen=True)
class Contents:
    """What an uploaded dataset holds.

    Attributes
    ----------
    items, dimension : int
    labelled : int
        Items with a label.
    classes : int
    queries : int
        Queries of its own, which are not among the items.
    """

    items: int
    dimension: int
    labelled: int
    classes: int
    queries: int


class Upload:
    """A dataset that arrives: the file to write it to and, once it is stored, what it holds."""

    contents: Contents

    def __init__(self, file: LimitedFile) -> None:
        self.file = file


class Datasets:
    """The datasets of a service. Thread-safe."""

    def __init__(self, settings: Settings, jobs: Jobs, state: State) -> None:
        self._settings, self._state = settings, state
        self._jobs = jobs
        self._folder = settings.files_dir / DATASETS
        self._places = BoundedSemaphore(AT_ONCE)
        # Held while a dataset is deleted or gets its name, and while a job that uses it is queued.
        self._lock = Lock()
        # Names of datasets that are being uploaded.
        self._uploading: set[str] = set()

    def list(self) -> builtins.list[str]:
        """Return the names of all datasets."""
        return list(known_datasets(self._settings.files_dir))

    def get(self, name: str) -> DatasetFile:
        """Return one dataset; raise UnknownDataset if there is none of this name."""
        path = self._path(name)
        if name == BUILT_IN:
            return DatasetFile(name, None, None)
        try:
            found = path.stat()
        except FileNotFoundError:  # Deleted at this moment.
            raise self._unknown(name) from None
        return DatasetFile(name, found.st_size, found.st_mtime)

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Keep a dataset from being deleted until the job that is to use it is queued.

        Raise UnknownDataset if there is none of this name. A path is never one.
        """
        with self._lock, self._state.locked("datasets"):
            self._path(name)
            yield

    def delete(self, name: str) -> None:
        """Delete a dataset; raise Conflict while a job uses it, and if it is built in."""
        with self._lock, self._state.locked("datasets"):
            path = self._path(name)
            if name == BUILT_IN:
                raise Conflict(f"{name!r} comes with the service and cannot be deleted")
            trainings = [one["training"] for one in self._jobs.open_requests("training")]
            kinds = ("benchmark", recommendation.KIND, explanation.KIND)
            others = [one for kind in kinds for one in self._jobs.open_requests(kind)]
            users = (*trainings, *others)
            if name in [request.get("dataset") for request in users]:
                raise Conflict(
                    f"dataset {name!r} is used by a job that waits or runs: cancel it, or wait "
                    "until it is done"
                )
            path.unlink(missing_ok=True)

    @contextmanager
    def receiving(self, name: str) -> Iterator[Upload]:
        """Open a new dataset for writing; read it once at the end of the block.

        Only then it has its name. If the block or the check raises, nothing of it is left.

        Raises
        ------
        InvalidItems
            A dataset cannot have this name.
        AlreadyExists
            There is such a dataset.
        BadDataset
            What was written is no dataset, or is damaged.
        Full
            The disk has no room, or the datasets take too much.
        Unready
            Too many datasets are being uploaded.
        """
        check_name(name)
        with self._place(), self._name_for(name) as path:
            self._folder.mkdir(exist_ok=True)
            with atomic_write(path) as file:
                upload = Upload(LimitedFile(file, self._settings, DATASETS))
                yield upload
                file.flush()
                upload.contents = self._checked(Path(file.name), name)

    def _path(self, name: str) -> Path:
        path = known_datasets(self._settings.files_dir).get(name)
        if path is None:
            raise self._unknown(name)
        return path

    def _unknown(self, name: str) -> UnknownDataset:
        return UnknownDataset(
            f"there is no dataset {name!r:.80}; there are {', '.join(self.list())}"
        )

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Unready(f"{AT_ONCE} datasets are being uploaded: try again later")
        try:
            yield
        finally:
            self._places.release()

    @contextmanager
    def _name_for(self, name: str) -> Iterator[Path]:
        """Lend the path of a new dataset, whose name nobody else gets meanwhile."""
        with self._lock:
            if name in self._uploading or name in self.list():
                raise AlreadyExists(f"there is already a dataset {name!r}")
            self._uploading.add(name)
        try:
            yield self._folder / f"{name}{UPLOADED}"
        finally:
            with self._lock:
                self._uploading.discard(name)

    def _checked(self, path: Path, name: str) -> Contents:
        """Read a file in a process of its own; raise BadDataset if it is no dataset."""
        request: dict[str, Any] = {"file": str(path), "name": name}
        task = Task(self._settings.files_dir, self._folder, request, None)
        process = JobProcess(dataset_check.work, task, threads=1)
        process.start()
        try:
            return Contents(**process.follow(lambda *_: None).result)
        except JobFailed as error:
            raise BadDataset(str(error).replace(str(path), name)) from None
