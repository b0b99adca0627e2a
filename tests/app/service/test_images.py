"""Image files over HTTP: descriptors, queries by image, and refusals."""

from __future__ import annotations

import base64
import io
import resource
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.errors import TooLarge
from app.http.routes.gist import IMAGE_DIMENSION
from app.service import images
from app.service.images import FORMATS, LEAST_PIXELS, MAX_SCANS, describe
from hashing import InvalidInput
from hashing.gist import Gist
from tests.app.asgi_client import TestClient
from tests.app.problems import assert_problem
from tests.crafted_images import chunk, transparent

PNG = {"Content-Type": "image/png"}


def picture(seed: int = 0, shape: tuple[int, ...] = (40, 60, 3)) -> NDArray[np.uint8]:
    """Return coarse noise, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (shape[0] // 4, shape[1] // 4, 3))
    return coarse.repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **more)
    return file.getvalue()


def described(answer: Any) -> NDArray[np.float32]:
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["descriptors"], np.float32)


@pytest.mark.parametrize("kind", FORMATS)
def test_one_image_of_each_format(client: TestClient, kind: str) -> None:
    file = encoded(picture(), kind)
    pixels = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    answer = client.post("/v1/gist", content=file, headers={"Content-Type": "image/x"})
    np.testing.assert_array_equal(described(answer), Gist().transform(pixels[None]))


def test_several_images_in_json_and_answers_in_npy(client: TestClient) -> None:
    pixels = [picture(1), picture(2, (32, 32)), picture(3, (64, 8))]
    body = {"images": [base64.b64encode(encoded(one)).decode() for one in pixels]}
    expected = np.concatenate([Gist().transform(one[None]) for one in pixels])
    assert expected.shape == (3, IMAGE_DIMENSION)
    np.testing.assert_array_equal(described(client.post("/v1/gist", json=body)), expected)
    accept = {"Accept": "application/x-npy"}
    answer = client.post("/v1/gist", json=body, headers=accept)
    assert answer.headers["content-type"] == "application/x-npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), expected)
    one = client.post("/v1/gist", content=encoded(pixels[0]), headers=PNG | accept)
    np.testing.assert_array_equal(np.load(io.BytesIO(one.content)), expected[:1])


def test_the_exif_orientation_is_applied(client: TestClient) -> None:
    upright = picture(4)
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: rotate by 90° clockwise.
    file = encoded(np.rot90(upright), exif=exif)
    found = described(client.post("/v1/gist", content=file, headers=PNG))
    np.testing.assert_array_equal(found, Gist().transform(upright[None]))


@pytest.fixture
def pictures(client: TestClient) -> TestClient:
    """A client of a service with collections `p`, of twelve images, and `c`, of others."""
    for name, dimension in (("p", 384), ("c", 4)):
        new = {"name": name, "method": "lsh", "n_bits": 64, "dimension": dimension}
        assert client.post("/v1/encoders", json=new).status_code == 201
        assert client.post("/v1/collections", json={"name": name, "encoder": name}).is_success
    X = Gist().transform(np.stack([picture(i) for i in range(12)])).tolist()
    items = [{"id": f"{i}", "descriptor": x, "payload": {"i": i}} for i, x in enumerate(X)]
    assert client.put("/v1/collections/p/items", json={"items": items}).is_success
    return client


def test_a_query_by_image_equals_one_by_descriptor(pictures: TestClient) -> None:
    file, url = encoded(picture(7)), "/v1/collections/p/query"
    descriptor = Gist().transform(picture(7)[None]).tolist()
    by_descriptor = pictures.post(url, json={"descriptors": descriptor, "k": 5, "payloads": False})
    by_image = pictures.post(f"{url}?k=5&payloads=false", content=file, headers=PNG)
    assert by_image.json() == by_descriptor.json()
    assert by_image.json()["results"][0][0] == {"id": "7", "distance": 0}
    wrong = pictures.post(f"{url}?filter=x", content=file, headers=PNG)
    assert_problem(wrong, 422, "unknown URL parameters: filter")
    other = pictures.post("/v1/collections/c/query", content=file, headers=PNG)
    assert_problem(other, 422, "dimension 4, got 384")
    gone = pictures.post("/v1/collections/none/query", content=b"", headers=PNG)
    assert_problem(gone, 404, "no collection 'none'")


def png_of(width: int, height: int, rows: int, *chunks: bytes) -> bytes:
    """Return a PNG that claims a size and holds some rows of zeros: a bomb if there are many."""
    packed = zlib.compress(bytes((width + 1) * rows), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    )


def jpeg_of_many_scans(scans: int) -> bytes:
    """Return a progressive JPEG that repeats its last scan: few bytes, much work."""
    file = encoded(picture(), "JPEG", progressive=True)
    last = file.rindex(b"\xff\xda")
    return file[:last] + file[last:-2] * scans + file[-2:]


@pytest.mark.parametrize(
    ("status", "message", "make"),
    [
        (413, "at most 40,000,000 pixels", lambda: png_of(100_000, 100_000, 1)),
        (413, "at most 40,000,000 pixels", lambda: png_of(12_000, 8_000, 1)),
        (413, "image 0 with 6400 x 6400 exceeds that", lambda: png_of(6_400, 6_400, 6_400)),
        (413, "at most 40,000,000 pixels", lambda: png_of(12_000, 8_000, 1, transparent(0))),
        (
            413,
            "image 0 has 1500000 x 1 pixels; a side has at most 65,535",
            lambda: png_of(1_500_000, 1, 1),
        ),
        (413, "image 0 has 1 x 1500000 pixels", lambda: png_of(1, 1_500_000, 1_500_000)),
        (422, "Truncated File Read", lambda: encoded(picture())[:16] + b"\xff" * 8),
        (413, f"scans, more than {MAX_SCANS}", lambda: jpeg_of_many_scans(3000)),
        (422, "image file is truncated", lambda: png_of(6_000, 6_000, 6_000)[:-9_000]),
        (422, "image file is truncated", lambda: encoded(picture(), "JPEG")[:-300]),
        (422, "no such format", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        (422, "no such format", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        (422, "no such format", lambda: encoded(picture(), "TIFF")),
        (422, "no such format", lambda: b""),
    ],
)
def test_refusing_a_file_costs_little(
    pictures: TestClient, status: int, message: str, make: Callable[[], bytes]
) -> None:
    file = make()
    pictures.post(
        "/v1/gist", content=encoded(picture()), headers=PNG
    )  # Load everything that decoding needs.
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    for url in ("/v1/gist", "/v1/collections/p/query"):
        assert_problem(pictures.post(url, content=file, headers=PNG), status, message)
    assert time.perf_counter() - start < 5
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert more < 500 * 1024  # KiB; 100,000 x 100,000 pixels would need 10,000 times as much.
    assert pictures.get("/healthz").status_code == 200


def png_with(before: bytes = b"", after: bytes = b"") -> bytes:
    """Return a small PNG with more chunks before or after its pixels."""
    file = encoded(picture())
    pixels, end = file.index(b"IDAT") - 4, file.index(b"IEND") - 4
    return file[:pixels] + before + file[pixels:end] + after + file[end:]


def jpeg_with(segments: bytes) -> bytes:
    """Return a small JPEG with more segments at its beginning."""
    file = encoded(picture(), "JPEG")
    return file[:2] + segments + file[2:]


def segment(marker: int, data: bytes = b"") -> bytes:
    """Return a segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def gif_with(blocks: bytes) -> bytes:
    """Return a small GIF with more blocks before its image."""
    file = encoded(picture(shape=(8, 8)), "GIF")
    start = 13 + 3 * (2 << (file[10] & 7) if file[10] & 128 else 0)
    return file[:start] + blocks + file[start:]


def bmp_of(width: int, height: int, runs: bytes) -> bytes:
    """Return a BMP of run-length encoded pixels."""
    offset = 54 + 4 * 256
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, offset) + head + bytes(4 * 256) + runs


@pytest.mark.parametrize(
    "file",
    [
        png_with(before=1100 * chunk(b"abCd")),
        png_with(after=1100 * chunk(b"abCd")),
        png_with(after=1100 * chunk(b"IDAT")),
        png_with(before=b"".join(chunk(b"tEXt", b"%d\0x" % n) for n in range(1100))),
        jpeg_with(b"\xff" * 3000),
        jpeg_with(b"\xff\0" * 3000),
        jpeg_with(1100 * segment(0xFE)),
        jpeg_with(1100 * segment(0xE1, b"Exif\0\0a")),
        gif_with(b"!\xfe" + b"\1a" * 1100 + b"\0"),
        gif_with(b"\0" * 3000),
        bmp_of(60, 60, (b"\1\0" * 60 + b"\0\0") * 60),
    ],
)
def test_a_file_of_too_many_parts_is_refused(file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe([file], LEAST_PIXELS).shape == (1, 384)
    monkeypatch.setattr(images, "MAX_READS", 1000)
    with pytest.raises(TooLarge, match="image 0 has more than 1,000 chunks, segments or runs"):
        describe([file], LEAST_PIXELS)
    ordinary = encoded(picture(shape=(400, 400)))
    assert describe([ordinary], 3 * LEAST_PIXELS).shape == (1, 384)


@pytest.mark.parametrize(
    ("message", "file"),
    [
        ("more than 4 MiB before", jpeg_with(65 * segment(0xE1, b"Exif\0\0" + bytes(65_000)))),
        ("more than 4 MiB before", png_with(before=chunk(b"abCd", bytes(5 << 20)))),
        ("more than 4 MiB before", gif_with(b"!\xfe" + 20_000 * (b"\xff" + bytes(255)) + b"\0")),
        ("11 colour profiles, more than 10", png_with(before=11 * chunk(b"iCCP", b"p\0\0"))),
    ],
)
def test_a_file_of_too_much_metadata_is_refused(message: str, file: bytes) -> None:
    with pytest.raises(TooLarge, match=message):
        describe([file], LEAST_PIXELS)


def test_metadata_of_ordinary_size_is_accepted() -> None:
    expected = describe([encoded(picture())], LEAST_PIXELS)
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1 << 19)))
    text = chunk(b"tEXt", b"Comment\0" + 60_000 * b"a")
    file = png_with(before=profile + text, after=chunk(b"abCd", bytes(5 << 20)))
    np.testing.assert_array_equal(describe([file], LEAST_PIXELS), expected)
    jpeg = jpeg_with(30 * segment(0xE2, b"ICC_PROFILE\0" + bytes(65_000)))
    assert describe([jpeg], LEAST_PIXELS).shape == (1, 384)


def test_pixels_that_are_decoded_slowly_count_more() -> None:
    file = bmp_of(300, 300, b"\xff\1\x2d\1\0\0" * 300)
    assert describe([file], 900_000).shape == (1, 384)
    with pytest.raises(TooLarge, match="300 x 300 \\(run-length encoded: each counts as 10\\)"):
        describe([file], 899_999)
    with pytest.raises(TooLarge, match="image 1"):
        describe([file, encoded(picture())], 900_001)


def test_images_that_take_long_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files = 3 * [encoded(picture())]
    assert describe(files, 10 * LEAST_PIXELS).shape == (3, 384)
    monkeypatch.setattr(images, "LEAST_SECONDS", 0)
    monkeypatch.setattr(images, "SECONDS_PER_PIXEL", 0)
    with pytest.raises(TooLarge, match="may take 0 s of computing, and the first 1 took longer"):
        describe(files, 10 * LEAST_PIXELS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: png_with(after=chunk(b"abCd") * (64 * 2**20 // 12)),
        lambda: jpeg_with(b"\xff" * (64 << 20)),
        lambda: jpeg_with(segment(0xE1, b"Exif\0\0a") * (64 * 2**20 // 11)),
        lambda: gif_with(b"!\xfe" + b"\1a" * (32 << 20) + b"\0"),
        lambda: bmp_of(1000, 1000, b"\1\1" * (32 << 20)),
    ],
    ids=["chunks", "fill bytes", "EXIF", "comments", "runs"],
)
def test_a_file_of_64_mib_takes_seconds(make: Callable[[], bytes]) -> None:
    file = make()
    start = time.thread_time()
    with pytest.raises(TooLarge):
        describe([file], 40_000_000)
    assert time.thread_time() - start < 10  # Half a minute to hours without the limits.


def test_the_largest_image_that_is_accepted(client: TestClient) -> None:
    file = png_of(6_000, 6_000, 6_000)
    assert len(file) < 100_000
    np.testing.assert_array_equal(
        described(client.post("/v1/gist", content=file, headers=PNG)), np.zeros((1, 384))
    )


def test_the_pixels_of_all_images_count_together() -> None:
    files = [encoded(picture(i)) for i in range(3)]
    assert describe(files, 2 * LEAST_PIXELS + 2400).shape == (3, 384)
    with pytest.raises(TooLarge, match="image 2 with 60 x 40 exceeds that"):
        describe(files, 2 * LEAST_PIXELS + 2399)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF"])
def test_scans_are_counted_in_jpegs_only(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    file = encoded(pixels, kind, lossless=True)
    file += b"\xff\xda" * MAX_SCANS + b"\xff\xda"
    assert describe([file], 4_000_000).shape == (1, 384)


def test_other_bodies_are_refused(client: TestClient) -> None:
    assert_problem(
        client.post("/v1/gist", content=b"x"), 415, "expected Content-Type application/json or"
    )
    assert_problem(client.post("/v1/gist", json={"images": []}), 422, "at least 1 item")
    assert_problem(client.post("/v1/gist", json={"images": [1]}), 422, "images.0: Input should be")
    assert_problem(
        client.post("/v1/gist", json={"images": ["AAAA"]}), 422, "image 0 cannot be read"
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_described_or_refused(kind: str) -> None:
    """No damage to a file lets an error of Pillow through."""
    rng, whole = np.random.default_rng(0), encoded(picture(), kind)
    outcomes: set[object] = set()
    for case in range(150):
        file = bytearray(whole)
        for at in rng.integers(0, len(file) if case % 2 else 60, 1 + case % 5):
            file[at % len(file)] = rng.integers(256)
        try:
            found = describe([bytes(file[: len(file) - case % 7])], 1_000_000)
            outcomes.add(found.shape)
        except (InvalidInput, TooLarge) as error:
            outcomes.add(type(error).__name__)
    assert outcomes == {(1, 384), "InvalidInput", "TooLarge"} or outcomes == {
        (1, 384),
        "InvalidInput",
    }
