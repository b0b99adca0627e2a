"""Descriptors of images of every mode: deep greys, floats and transparency."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from app.errors import TooLarge
from app.service.images import LEAST_PIXELS, describe, describe_file
from hashing import InvalidInput
from tests.app.asgi_client import TestClient
from tests.app.problems import assert_problem
from tests.crafted_images import GREY, RGB, chunk, fits, png, tiff, transparent

ROWS, COLUMNS = np.mgrid[:64, :64]
WAVES = np.sin(COLUMNS / 5) * np.cos(ROWS / 7)


def encoded(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def described(*files: bytes) -> NDArray[np.float32]:
    return describe(list(files), len(files) * LEAST_PIXELS)


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return how far descriptors are apart, as a share of their length."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_16_bits_and_8_bits_have_the_same_descriptor() -> None:
    deep = (20_000 + 15_000 * WAVES).astype(np.uint16)
    eight = np.rint(deep / 257).astype(np.uint8)
    found = described(png(deep, 16, GREY), encoded(Image.fromarray(eight)))
    assert distance(*found) < 0.01


@pytest.mark.parametrize(
    "file",
    {
        "16 bits of few values": tiff((300 + 10 * WAVES).round().astype(np.uint16)),
        "signed 16 bits": tiff((9_000 * WAVES).astype(np.int16), order=">", compressed=True),
        "32 bits": tiff((3e9 + 1e9 * WAVES).astype(np.uint32)),
        "floats from 0 to 1": tiff((0.5 + 0.5 * WAVES).astype(np.float32)),
        "floats of any range": tiff((1e-6 * WAVES - 3e-6).astype(np.float32), order=">"),
        "white is zero": tiff((30_000 - 20_000 * WAVES).astype(np.uint16), photometric=0),
        "FITS": fits((30_000 * WAVES).astype(np.int16)),
        "PGM": b"P5 64 64 1023\n" + (500 + 400 * WAVES).astype(">u2").tobytes(),
    }.values(),
)
def test_deep_greys_of_any_range_have_the_descriptor_of_8_bits(file: bytes, tmp_path: Path) -> None:
    (tmp_path / "deep").write_bytes(file)
    (tmp_path / "eight.png").write_bytes(
        encoded(Image.fromarray(np.rint(127 + 127 * WAVES).astype(np.uint8)))
    )
    deep, eight = (describe_file(tmp_path / name) for name in ("deep", "eight.png"))
    assert distance(deep, eight) < 0.15  # Few values are few levels of grey.


def drawing(shape: str, ink: tuple[int, ...] = (0, 0, 0, 255)) -> Image.Image:
    """Return a shape on a transparent black background."""
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    getattr(ImageDraw.Draw(image), shape)((10, 20, 50, 44), fill=ink)
    return image


def test_black_shapes_on_transparent_black_differ() -> None:
    ellipse, rectangle = described(*(encoded(drawing(kind)) for kind in ("ellipse", "rectangle")))
    assert distance(ellipse, rectangle) > 0.1
    white = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(white).ellipse((10, 20, 50, 44), fill="black")
    np.testing.assert_array_equal(described(encoded(white))[0], ellipse)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_colours_under_transparent_pixels_do_not_matter(kind: str) -> None:
    plain = np.array(drawing("ellipse", (200, 30, 60, 255)))
    hidden = plain.copy()
    unseen = plain[..., 3] == 0
    hidden[unseen, :3] = np.random.default_rng(0).integers(0, 256, (unseen.sum(), 3))
    more = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    files = [encoded(Image.fromarray(pixels), kind, **more) for pixels in (plain, hidden)]
    assert files[0] != files[1]
    a, b = described(*files)
    assert a.any()
    np.testing.assert_array_equal(a, b)


def test_transparency_without_an_alpha_channel() -> None:
    """tRNS of grey and RGB PNGs, and the transparent index of palettes in PNG and GIF."""
    ink = np.asarray(drawing("ellipse"))[..., 3] > 0
    grey = np.where(ink, 90, 0).astype(np.uint8)
    expected = described(encoded(Image.fromarray(np.where(ink, 90, 255).astype(np.uint8))))[0]
    palette = Image.fromarray(ink.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 90, 90, 90])
    found = described(
        png(grey, 8, GREY, transparent(0)),
        png(grey[..., None].repeat(3, axis=2), 8, RGB, transparent(0, 0, 0)),
        png(ink * 90 * 257, 16, GREY, transparent(0)),
        encoded(palette, transparency=0),
        encoded(palette, transparency=b"\0"),
        encoded(palette, "GIF", transparency=0),
    )
    np.testing.assert_allclose(found, np.tile(expected, (6, 1)), rtol=1e-4, atol=1e-6)


def test_a_fully_transparent_image_has_the_zero_descriptor() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 4), np.uint8)
    noise[..., 3] = 0
    assert not described(encoded(Image.fromarray(noise))).any()


def test_the_service_describes_and_refuses_by_mode(client: TestClient) -> None:
    deep = png((20_000 + 15_000 * WAVES).astype(np.uint16), 16, GREY)
    lossy = png(np.full((4, 4, 3), 700), 16, RGB, transparent(1, 2, 3))
    headers = {"Content-Type": "image/png"}
    answer = client.post("/v1/gist", content=deep, headers=headers)
    np.testing.assert_array_equal(
        np.array(answer.json()["descriptors"], np.float32), described(deep)
    )
    message = "image 1 cannot be read as PNG, JPEG, WEBP, GIF, BMP: of RGB with 16 bits"
    body = {"images": [base64.b64encode(file).decode() for file in (deep, lossy)]}
    assert_problem(client.post("/v1/gist", json=body), 422, message)
    with pytest.raises(InvalidInput, match="transparent colour"):
        described(lossy)


@pytest.mark.parametrize(
    "file",
    {
        "RGBA": encoded(drawing("ellipse")),
        "16 bits": png(np.arange(64).reshape(8, 8), 16, GREY, transparent(5)),
        "RGB": png(np.arange(192).reshape(8, 8, 3), 8, RGB, transparent(0, 1, 2)),
        "palette": encoded(drawing("ellipse").quantize(4)),
        "GIF": encoded(drawing("ellipse"), "GIF"),
        "WebP": encoded(drawing("ellipse"), "WEBP"),
    }.values(),
)
def test_damage_to_transparency_lets_no_error_of_pillow_through(file: bytes) -> None:
    rng = np.random.default_rng(0)
    outcomes: set[object] = set()
    for _ in range(60):
        damaged = bytearray(file)
        for at in rng.integers(0, len(file), rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        try:
            outcomes.add(described(with_checksums(bytes(damaged))).shape)
        except (InvalidInput, TooLarge) as error:
            outcomes.add(type(error))
    assert outcomes >= {(1, 384), InvalidInput}


def with_checksums(file: bytes) -> bytes:
    """Return a PNG with the checksums that its chunks should have; other files as they are."""
    if not file.startswith(b"\x89PNG"):
        return file
    whole, at = file[:8], 8
    while at < len(file):
        size = int.from_bytes(file[at : at + 4])
        whole += chunk(file[at + 4 : at + 8], file[at + 8 : at + 8 + size])
        at += size + 12
    return whole


def test_what_a_file_cannot_be_read_as(tmp_path: Path) -> None:
    for name, file, message in (
        ("x.tif", tiff(np.array([[1, np.nan]], np.float32)), "got NaN or infinite"),
        ("x.tif", tiff(np.ones((2, 2, 3), np.float32), photometric=2), "begins as TIFF does"),
        ("x.png", b"\x89PNG\r\n\x1a\n" + bytes(20), "begins as PNG does, but is damaged"),
        ("x.png", b"text that is no image", "^no such format$"),
        ("x.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "^no such format$"),
        ("x.png", b"", "^no such format$"),
    ):
        (tmp_path / name).write_bytes(file)
        with pytest.raises(ValueError, match=message):
            describe_file(tmp_path / name)
    with pytest.raises(ValueError, match="it is a folder, a pipe or a device"):
        describe_file(tmp_path)
    with pytest.raises(ValueError, match=r"^No such file or directory$"):
        describe_file(tmp_path / "none.png")
