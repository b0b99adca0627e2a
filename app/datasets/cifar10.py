"""The dataset `cifar10`: fetch the binary archive, and describe its images.

The descriptors are GIST, the privileged features those of `app.datasets.patch_features`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn

from app.datasets.patch_features.features import PatchFeatures
from hashing.atomic_file import atomic_write
from hashing.gist import Gist

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SIZE = 170_052_171
# From TensorFlow Datasets. The authors' page gives the MD5 c32a1d4ab5d03f1284b67883e8d87530.
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
TIMEOUT = 30.0  # Seconds without a byte.

FOLDER = "cifar-10-batches-bin"
BATCHES = [f"{FOLDER}/data_batch_{i}.bin" for i in range(1, 6)] + [f"{FOLDER}/test_batch.bin"]
NAMES = f"{FOLDER}/batches.meta.txt"
MAX_NAMES_BYTES = 4096  # The published file has 61.
RECORDS = 10_000  # Per batch.
CLASSES = 10
SIDE = 32
BLOCK = 1_000  # Images that are described between two writes.


class BadArchive(ValueError):
    """The file is not CIFAR-10 in its binary layout. The message says what was expected."""


class DownloadFailed(OSError):
    """The archive could not be downloaded, or is not the published one."""


def fetch(
    data_dir: Path, archive: Path | None = None, *, transport: httpx.BaseTransport | None = None
) -> Path:
    """Make the dataset `cifar10`; resume if an earlier call was interrupted.

    Parameters
    ----------
    data_dir : Path
        The data directory.
    archive : Path, optional
        A tar.gz of CIFAR-10 in its binary layout, not necessarily the published one. By default
        the published archive is downloaded and its checksum verified.
    transport : httpx.BaseTransport, optional
        Carries the download; by default the network.

    Returns
    -------
    Path
        `datasets/cifar10.npz` in the data directory: the 50,000 training images in the archive's
        order, then the 10,000 test images. If the file of an earlier version is there, which
        lacks privileged features, they are added to it.

    Raises
    ------
    BadArchive
    DownloadFailed
    OSError
    """
    out = data_dir / "datasets" / "cifar10.npz"
    partial = out.with_name("cifar10.partial")
    existing = _read_existing(out)
    if out.exists() and existing is None:
        Console(stderr=True).out(f"{out} exists already; remove it to make it again")
    else:
        arrays = existing or _read(archive or _download(data_dir / "downloads", transport))
        partial.mkdir(parents=True, exist_ok=True)
        if "descriptors" not in arrays:
            describe = _Described("describing", "gist", Gist().transform)
            arrays |= {"descriptors": describe(arrays["images"], partial), "mirror": Gist().mirror}
        arrays |= _privileged(arrays["images"], partial)
        with atomic_write(out, partial) as file:
            np.savez(file, **arrays)
    shutil.rmtree(partial, ignore_errors=True)
    return out


def _download(folder: Path, transport: httpx.BaseTransport | None) -> Path:
    archive = folder / URL.rpartition("/")[2]
    if archive.exists():
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(f"{archive.name}.part")
    part.touch()
    if part.stat().st_size < SIZE:
        try:
            with httpx.Client(
                transport=transport, timeout=TIMEOUT, follow_redirects=True
            ) as client:
                _receive(client, part)
        except httpx.HTTPError as error:
            raise _download_failed(part, f"{type(error).__name__}: {error}") from None
    if part.stat().st_size < SIZE:
        raise _download_failed(part, "the connection ended early")
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        part.unlink()
        raise DownloadFailed(f"{URL}: expected SHA-256 {SHA256}, got {found}; the file is removed")
    return part.replace(archive)


def _receive(client: httpx.Client, part: Path) -> None:
    """Append the missing bytes to `part`; start over if the server cannot resume."""
    size = part.stat().st_size
    headers = {"Accept-Encoding": "identity"}
    if size:
        headers["Range"] = f"bytes={size}-"
    with client.stream("GET", URL, headers=headers) as response:
        status, length = response.status_code, response.headers.get("content-length", "any")
        requested = f"bytes {size}-{SIZE - 1}/{SIZE}"
        if status == 206 and response.headers.get("content-range") == requested:
            offset = size
        elif status == 200 and length in ("any", str(SIZE)):
            offset = 0
        elif size and status in (206, 416):  # The server cannot resume.
            os.truncate(part, 0)
            _receive(client, part)
            return
        else:
            got = f"{status} {response.reason_phrase} with {length} bytes"
            raise _download_failed(part, f"expected status 200 with {SIZE} bytes, got {got}")
        with part.open("ab") as file, _bar(DownloadColumn()) as bar:
            file.truncate(offset)
            task = bar.add_task("downloading", total=SIZE, completed=offset)
            for chunk in response.iter_raw():  # Raw: a server may claim a wrong encoding.
                file.write(chunk)
                bar.advance(task, len(chunk))
                if file.tell() > SIZE:
                    break
            file.flush()
            os.fsync(file.fileno())


def _download_failed(part: Path, reason: str) -> DownloadFailed:
    return DownloadFailed(
        f"{URL}: {reason}. {part.stat().st_size:,} of {SIZE:,} bytes were downloaded; run the "
        "same command again to resume, or use a copy with --archive"
    )


def _read(archive: Path) -> dict[str, Any]:
    """Read all arrays of the dataset except `descriptors`, in the order of `BATCHES`."""
    images = np.empty((len(BATCHES), RECORDS, SIDE, SIDE, 3), np.uint8)
    labels = np.empty((len(BATCHES), RECORDS), np.int64)
    names: list[str] = []
    for member, content in _members(archive):
        where = f"{archive}: {member}"
        if member == NAMES:
            names = content.decode(errors="replace").split()
            if len(names) != CLASSES:
                raise BadArchive(f"{where}: expected {CLASSES} class names, got {len(names)}")
            continue
        records = np.frombuffer(content, np.uint8).reshape(RECORDS, -1)
        batch = BATCHES.index(member)
        labels[batch] = records[:, 0]
        images[batch] = records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        if (largest := labels[batch].max()) >= CLASSES:
            record = labels[batch].argmax()
            raise BadArchive(
                f"{where}: expected labels below {CLASSES}, got {largest} in record {record}"
            )
    ids = [f"train-{i:05d}" for i in range(5 * RECORDS)]
    ids += [f"test-{i:05d}" for i in range(RECORDS)]
    return {
        "images": images.reshape(-1, SIDE, SIDE, 3),
        "labels": labels.ravel(),
        "ids": np.array(ids),
        "class_names": np.array(names),
    }


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each expected member; its size is checked before it is read."""
    sizes = dict.fromkeys(BATCHES, RECORDS * (1 + 3 * SIDE * SIDE)) | {NAMES: MAX_NAMES_BYTES}
    others = []
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                if member.name not in sizes:
                    others.append(repr(member.name))
                    continue
                size, expected = member.size, sizes.pop(member.name)
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or size > expected or (size < expected and member.name != NAMES):
                    at_most = "at most " if member.name == NAMES else ""
                    got = f"{size:,}" if content else "a link or a folder"
                    message = f"expected a file of {at_most}{expected:,} bytes, got {got}"
                    raise BadArchive(f"{archive}: {member.name}: {message}")
                yield member.name, content.read()
            while stream.read(1 << 20):  # The checksum of gzip is at the end.
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadArchive(f"{archive}: expected a complete tar.gz file: {error}") from None
    if sizes:
        found = f"found {', '.join(others[:3])}" if others else "found no other members"
        raise BadArchive(f"{archive}: expected also {', '.join(sizes)}; {found}")


def _read_existing(out: Path) -> dict[str, Any] | None:
    """Return the arrays of the file that an earlier version made; None if there is no such file."""
    if not out.exists() or not zipfile.is_zipfile(out):
        return None
    with zipfile.ZipFile(out) as file:
        names = set(file.namelist())
    if "privileged.npy" in names or not names >= {"images.npy", "descriptors.npy", "labels.npy"}:
        return None
    with np.load(out, allow_pickle=False) as npz:
        arrays = {key: npz[key] for key in npz.files}
    return arrays if arrays["images"].shape[1:] == (SIDE, SIDE, 3) else None


def _privileged(images: NDArray[np.uint8], partial: Path) -> dict[str, Any]:
    """Learn patch features of the images, and return them as the dataset's privileged features."""
    extractor = PatchFeatures()
    digest = hashlib.sha256(images.data)
    digest.update(repr(extractor.settings).encode())
    learned = partial / f"{digest.hexdigest()}.npz"
    if learned.exists():
        extractor.load(learned)
    else:
        with _bar(MofNCompleteColumn()) as bar:
            task = bar.add_task("learning patches", total=None)

            def show(activity: str, done: int, total: int) -> None:
                bar.update(task, description=activity, completed=done, total=total)

            extractor.fit(images, show)
        extractor.save(learned)
    describe = _Described("describing patches", learned.stem, extractor.transform)
    return {
        "privileged": describe(images, partial),
        "privileged_mirror": extractor.mirror,
    }


@dataclass(frozen=True)
class _Described:
    """Images described block by block, such that an interrupted run resumes.

    Each block is written to a file that is named by the hash of its pixels and of `kind`, so a run
    never resumes with the descriptors of other images, or of another kind.
    """

    activity: str
    kind: str
    transform: Callable[[NDArray[np.uint8]], NDArray[Any]]

    def __call__(self, images: NDArray[np.uint8], partial: Path) -> NDArray[Any]:
        """Return the descriptors of images, with those that are in the folder `partial`."""
        blocks = [images[start : start + BLOCK] for start in range(0, len(images), BLOCK)]
        files = [partial / f"{self._name(block)}.npy" for block in blocks]
        missing = [
            (block, file) for block, file in zip(blocks, files, strict=True) if not file.exists()
        ]
        with _bar(MofNCompleteColumn()) as bar:
            done = len(images) - sum(len(block) for block, _ in missing)
            task = bar.add_task(self.activity, total=len(images), completed=done)
            for block, path in missing:
                descriptors = self.transform(block)
                with atomic_write(path, partial) as file:
                    np.save(file, descriptors)
                bar.advance(task, len(block))
        return np.concatenate([np.load(path, allow_pickle=False) for path in files])

    def _name(self, block: NDArray[np.uint8]) -> str:
        digest = hashlib.sha256(block.data)
        digest.update(self.kind.encode())
        return digest.hexdigest()


def _bar(column: ProgressColumn) -> Progress:
    columns = *Progress.get_default_columns(), column
    return Progress(*columns, console=Console(stderr=True), transient=True)
