from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from app.datasets import cifar10
from app.datasets.catalog import load_dataset
from app.datasets.cifar10 import BadArchive, DownloadFailed, fetch
from app.datasets.dataset import Dataset
from app.datasets.patch_features import features as patch_features
from app.datasets.patch_features.features import PatchFeatures
from hashing.gist import Gist

RECORDS = 4
N = 6 * RECORDS
BATCHES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
NAMES = [f"class-{i}" for i in range(10)]
LABELS = [(7 * i + 3) % 10 for i in range(N)]

Images = NDArray[np.uint8]
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "RECORDS", RECORDS)
    monkeypatch.setattr(cifar10, "BLOCK", 5)
    monkeypatch.setattr(patch_features, "WORDS", (8, 4))
    monkeypatch.setattr(patch_features, "N_FEATURES", 6)


@pytest.fixture
def images() -> Images:
    return np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3), np.uint8)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the blocks that are described, in order."""
    described: list[int] = []

    class Counted(Gist):
        def transform(self, images: NDArray[Any]) -> NDArray[np.float32]:
            described.append(len(images))
            return super().transform(images)

    monkeypatch.setattr(cifar10, "Gist", Counted)
    return described


def members(images: Images) -> dict[str, bytes]:
    records = [
        bytes([label]) + b"".join(image[:, :, channel].tobytes() for channel in range(3))
        for label, image in zip(LABELS, images, strict=True)
    ]
    files = {"batches.meta.txt": "\n".join([*NAMES, "", ""]).encode()}
    for i, name in enumerate(BATCHES):
        files[name] = b"".join(records[RECORDS * i : RECORDS * (i + 1)])
    return {f"cifar-10-batches-bin/{name}": data for name, data in files.items()}


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def archive(images: Images, tmp_path: Path) -> Path:
    path = tmp_path / "given.tar.gz"
    path.write_bytes(packed(members(images)))
    return path


def load(data_dir: Path) -> Dataset:
    return load_dataset("cifar10", data_dir, images=True)


def test_an_archive_becomes_a_dataset(images: Images, archive: Path, tmp_path: Path) -> None:
    path = fetch(tmp_path, archive)
    assert path == tmp_path / "datasets" / "cifar10.npz"
    assert [file.name for file in path.parent.iterdir()] == ["cifar10.npz"]
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset.images, images)
    np.testing.assert_array_equal(dataset.labels, LABELS)
    np.testing.assert_allclose(dataset.descriptors, Gist().transform(images), rtol=1e-4, atol=1e-4)
    assert dataset.class_names is not None
    assert dataset.class_names.tolist() == NAMES
    assert dataset.ids[[0, 19, 20, 23]].tolist() == [
        "train-00000",
        "train-00019",
        "test-00000",
        "test-00003",
    ]


def test_the_order_of_members_and_other_members_do_not_matter(
    images: Images, tmp_path: Path
) -> None:
    files = {"../evil": b"x"} | dict(reversed(members(images).items())) | {"readme.html": b"x"}
    (tmp_path / "other.tar.gz").write_bytes(packed(files))
    fetch(tmp_path / "data", tmp_path / "other.tar.gz")
    np.testing.assert_array_equal(load(tmp_path / "data").images, images)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "other.tar.gz"]


def test_an_existing_dataset_is_kept(
    archive: Path, blocks: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fetch(tmp_path, archive)
    written = path.stat().st_mtime_ns
    archive.unlink()
    assert fetch(tmp_path, archive) == path
    assert path.stat().st_mtime_ns == written
    assert len(blocks) == 5
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("arrays", [None, {"descriptors": np.eye(3), "labels": np.arange(3)}])
def test_another_file_of_this_name_is_kept(
    arrays: dict[str, Any] | None, archive: Path, tmp_path: Path
) -> None:
    path = tmp_path / "datasets" / "cifar10.npz"
    path.parent.mkdir()
    if arrays is None:
        path.write_bytes(b"no zip file")
    else:
        np.savez(path, **arrays)
    before = path.read_bytes()
    assert fetch(tmp_path, archive) == path
    assert path.read_bytes() == before


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopping(Gist):
        left = count

        def transform(self, images: NDArray[Any]) -> NDArray[np.float32]:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            return super().transform(images)

    monkeypatch.setattr(cifar10, "Gist", Stopping)


def interrupt(data_dir: Path, archive: Path, after: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(after, patch)
        with pytest.raises(KeyboardInterrupt):
            fetch(data_dir, archive)


def test_finished_blocks_are_not_described_again(
    archive: Path, blocks: list[int], tmp_path: Path
) -> None:
    interrupt(tmp_path, archive, after=2)
    partial = tmp_path / "datasets" / "cifar10.partial"
    (partial / "torn.npy.123").write_bytes(b"left by a kill")
    assert not (tmp_path / "datasets" / "cifar10.npz").exists()
    fetch(tmp_path, archive)
    assert blocks == [5, 5, 4]
    assert not partial.exists()
    fetch(tmp_path / "at once", archive)
    np.testing.assert_array_equal(
        load(tmp_path).descriptors, load(tmp_path / "at once").descriptors
    )


def test_blocks_of_other_images_are_not_used(
    images: Images, archive: Path, blocks: list[int], tmp_path: Path
) -> None:
    interrupt(tmp_path, archive, after=3)
    images = 255 - images[::-1]
    archive.write_bytes(packed(members(images)))
    fetch(tmp_path, archive)
    assert blocks == [5, 5, 5, 5, 4]
    np.testing.assert_allclose(
        load(tmp_path).descriptors, Gist().transform(images), rtol=1e-4, atol=1e-4
    )


def test_a_dataset_that_cannot_be_written_leaves_only_described_blocks(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="disk full"):
        fetch(tmp_path, archive)
    files = [path for path in (tmp_path / "datasets").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".npy"}
    assert len(files) == 5


BATCH_3 = "cifar-10-batches-bin/data_batch_3.bin"
META = "cifar-10-batches-bin/batches.meta.txt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({BATCH_3: None}, f"expected also {BATCH_3}; found no other members"),
        ({META: None, "notes": b""}, f"expected also {META}; found 'notes'"),
        ({BATCH_3: b"123"}, f"{BATCH_3}: expected a file of 12,292 bytes, got 3$"),
        ({BATCH_3: bytes(12_293)}, f"{BATCH_3}: expected a file of 12,292 bytes, got 12,293$"),
        (
            {BATCH_3: bytes(2 * 3073) + bytes([10]) * 2 * 3073},
            f"{BATCH_3}: expected labels below 10, got 10 in record 2$",
        ),
        ({META: b"cat\ndog\n"}, f"{META}: expected 10 class names, got 2$"),
        ({META: bytes(4097)}, f"{META}: expected a file of at most 4,096 bytes, got 4,097$"),
    ],
)
def test_other_layouts_are_refused(
    change: dict[str, bytes | None], message: str, images: Images, archive: Path, tmp_path: Path
) -> None:
    files = {name: data for name, data in (members(images) | change).items() if data is not None}
    archive.write_bytes(packed(files))
    with pytest.raises(BadArchive, match=rf"^{archive}: .*{message}"):
        fetch(tmp_path, archive)
    assert not (tmp_path / "datasets").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_links_and_folders_are_refused(kind: bytes, archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo(BATCH_3)
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(BadArchive, match=f"{BATCH_3}: .* got a link or a folder"):
        fetch(tmp_path, archive)


def flipped(data: bytes) -> bytes:
    """The data with a wrong checksum at the end of the gzip stream."""
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"PK\x03\x04 a zip",
        lambda data: gzip.compress(b"no tar"),
        lambda data: data[: len(data) // 2],
        lambda data: gzip.compress(gzip.decompress(data)[:20_000]),
        flipped,
    ],
)
def test_damaged_and_other_files_are_refused(
    damage: Callable[[bytes], bytes], archive: Path, tmp_path: Path
) -> None:
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(BadArchive, match=r"expected a complete tar\.gz"):
        fetch(tmp_path, archive)


def test_a_missing_archive_is_an_error_that_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tar\.gz"):
        fetch(tmp_path, tmp_path / "nowhere.tar.gz")


def reply(status: int, data: bytes, **headers: str) -> httpx.Response:
    headers["Content-Length"] = str(len(data))
    return httpx.Response(status, stream=httpx.ByteStream(data), headers=headers)


class Server:
    """Serves `data` with the handler `answer`, and records the Range header of each request."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.ranges: list[str | None] = []
        self.answer: Handler = self.resumable

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url) == cifar10.URL
        self.ranges.append(request.headers.get("range"))
        return self.answer(request)

    def resumable(self, request: httpx.Request) -> httpx.Response:
        if "range" not in request.headers:
            return reply(200, self.data)
        start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        range_ = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        return reply(206, self.data[start:], **{"Content-Range": range_})

    def whole(self, request: httpx.Request) -> httpx.Response:
        return reply(200, self.data)

    def dropping(self, request: httpx.Request) -> httpx.Response:
        def body() -> Iterator[bytes]:
            yield self.data[:1000]
            raise httpx.ReadError("connection reset")

        return httpx.Response(200, content=body())


@pytest.fixture
def server(images: Images, monkeypatch: pytest.MonkeyPatch) -> Server:
    data = packed(members(images))
    monkeypatch.setattr(cifar10, "SIZE", len(data))
    monkeypatch.setattr(cifar10, "SHA256", hashlib.sha256(data).hexdigest())
    return Server(data)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    path = tmp_path / "downloads" / "cifar-10-binary.tar.gz.part"
    path.parent.mkdir()
    return path


def get(server: Server, data_dir: Path) -> None:
    fetch(data_dir, transport=httpx.MockTransport(server))


def finished(server: Server, part: Path) -> bool:
    return not part.exists() and part.with_suffix("").read_bytes() == server.data


def test_an_archive_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    get(server, tmp_path)
    (tmp_path / "datasets" / "cifar10.npz").unlink()
    get(server, tmp_path)
    assert server.ranges == [None]
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == ["cifar-10-binary.tar.gz"]
    assert len(load(tmp_path)) == N


def test_a_download_resumes(server: Server, part: Path, tmp_path: Path) -> None:
    part.write_bytes(server.data[:500])
    get(server, tmp_path)
    assert server.ranges == ["bytes=500-"]
    assert finished(server, part)


def test_a_complete_part_is_not_downloaded(server: Server, part: Path, tmp_path: Path) -> None:
    part.write_bytes(server.data)
    get(server, tmp_path)
    assert server.ranges == []
    assert finished(server, part)


def test_a_server_that_ignores_ranges_sends_everything(
    server: Server, part: Path, tmp_path: Path
) -> None:
    part.write_bytes(b"x" * 500)
    server.answer = server.whole
    get(server, tmp_path)
    assert server.ranges == ["bytes=500-"]
    assert finished(server, part)


@pytest.mark.parametrize(
    "refusal", [httpx.Response(416), httpx.Response(206, headers={"Content-Range": "bytes 0-9/99"})]
)
def test_a_server_that_cannot_resume_sends_everything(
    refusal: httpx.Response, server: Server, part: Path, tmp_path: Path
) -> None:
    part.write_bytes(b"x" * 500)
    server.answer = lambda request: refusal if "range" in request.headers else server.whole(request)
    get(server, tmp_path)
    assert server.ranges == ["bytes=500-", None]
    assert finished(server, part)


def test_after_a_dropped_connection_only_the_rest_is_downloaded(
    server: Server, part: Path, tmp_path: Path
) -> None:
    server.answer = server.dropping
    with pytest.raises(DownloadFailed, match=r"ReadError: connection reset\. 1,000 of "):
        get(server, tmp_path)
    assert part.read_bytes() == server.data[:1000]
    server.answer = server.resumable
    get(server, tmp_path)
    assert server.ranges == [None, "bytes=1000-"]
    assert finished(server, part)


def test_an_early_end_of_the_body_is_an_error(server: Server, part: Path, tmp_path: Path) -> None:
    server.answer = lambda _: httpx.Response(200, content=iter([server.data[:700]]))
    with pytest.raises(DownloadFailed, match=r"the connection ended early\. 700 of"):
        get(server, tmp_path)
    assert part.stat().st_size == 700


@pytest.mark.parametrize("endless", [False, True])
def test_a_wrong_checksum_names_both_and_removes_the_file(
    endless: bool, server: Server, part: Path, tmp_path: Path
) -> None:
    other = bytes(cifar10.SIZE)

    def body() -> Iterator[bytes]:
        while True:
            yield other

    server.answer = lambda _: httpx.Response(200, content=body()) if endless else reply(200, other)
    got = hashlib.sha256(bytes(2 * cifar10.SIZE) if endless else other).hexdigest()
    with pytest.raises(DownloadFailed, match=f"expected SHA-256 {cifar10.SHA256}, got {got}"):
        get(server, tmp_path)
    assert list(part.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.Response(404), "got 404 Not Found"),
        (httpx.Response(500), "got 500 Internal Server Error"),
        (httpx.Response(200, content=b"<html>log in"), "got 200 OK with 12 bytes"),
        (httpx.ReadTimeout("timed out"), "ReadTimeout: timed out"),
        (httpx.ConnectError("no such host"), "ConnectError: no such host"),
    ],
)
def test_errors_keep_the_part_and_are_one_line(
    response: httpx.Response | httpx.HTTPError,
    message: str,
    server: Server,
    part: Path,
    tmp_path: Path,
) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        if isinstance(response, httpx.HTTPError):
            raise response
        return response

    part.write_bytes(server.data[:500])
    server.answer = answer
    with pytest.raises(DownloadFailed, match=f"{message}.* 500 of .* --archive") as caught:
        get(server, tmp_path)
    assert "\n" not in str(caught.value)
    assert part.read_bytes() == server.data[:500]


def test_redirects_are_followed_with_the_range(server: Server, part: Path, tmp_path: Path) -> None:
    def moved(request: httpx.Request) -> httpx.Response:
        if request.url.host != "mirror":
            return httpx.Response(302, headers={"Location": "https://mirror/file"})
        return server.resumable(request)

    part.write_bytes(server.data[:500])
    fetch(tmp_path, transport=httpx.MockTransport(moved))
    assert finished(server, part)


def test_the_privileged_features_are_those_of_the_patches(
    images: Images, archive: Path, tmp_path: Path
) -> None:
    fetch(tmp_path, archive)
    dataset = load(tmp_path)
    extractor = PatchFeatures().fit(images)
    assert dataset.privileged is not None
    assert dataset.privileged.dtype == np.float16
    expected = extractor.transform(images).astype(float)
    np.testing.assert_allclose(dataset.privileged.astype(float), expected, atol=1e-2)
    np.testing.assert_array_equal(dataset.privileged_mirror, extractor.mirror)


def test_an_interrupted_run_resumes_with_the_learned_patches(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transform = PatchFeatures.transform
    learned: list[PatchFeatures] = []
    described: list[int] = []

    def interrupted(self: PatchFeatures, images: Images) -> Any:
        if len(described) == 2:
            raise KeyboardInterrupt
        described.append(len(images))
        return transform(self, images)

    def counted(self: PatchFeatures, *args: Any) -> Any:
        learned.append(self)
        return fit(self, *args)

    fit = PatchFeatures.fit
    monkeypatch.setattr(PatchFeatures, "fit", counted)
    monkeypatch.setattr(PatchFeatures, "transform", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, archive)
    monkeypatch.setattr(PatchFeatures, "transform", transform)
    path = fetch(tmp_path, archive)
    assert [file.name for file in path.parent.iterdir()] == ["cifar10.npz"]
    assert (len(learned), described) == (1, [5, 5])
    resumed = load(tmp_path).privileged
    fetch(tmp_path / "again", archive)
    np.testing.assert_array_equal(resumed, load(tmp_path / "again").privileged)


def test_a_dataset_of_an_earlier_version_gets_privileged_features(
    archive: Path, blocks: list[int], tmp_path: Path
) -> None:
    path = fetch(tmp_path, archive)
    with np.load(path) as npz:
        arrays = {key: npz[key] for key in npz.files}
    earlier = {key: array for key, array in arrays.items() if not key.startswith("privileged")}
    np.savez(path, **earlier)
    archive.unlink()
    del blocks[:]
    fetch(tmp_path, archive)
    assert not blocks
    with np.load(path) as npz:
        assert sorted(npz.files) == sorted(arrays)
        for key, array in arrays.items():
            np.testing.assert_array_equal(npz[key], array)
