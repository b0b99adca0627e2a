"""The pixels of images of every mode: full range, upright, on a background."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hashing.gist.pixels import pixels_of
from tests.crafted_images import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGB_ALPHA,
    bmp,
    chunk,
    fits,
    png,
    tga,
    tiff,
    transparent,
)

RNG = np.random.default_rng(0)
SHAPE = (8, 16)


def opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def numbers(kind: type[np.integer], *shape: int) -> NDArray[Any]:
    limits = np.iinfo(kind)
    return RNG.integers(limits.min, limits.max, shape or SHAPE, kind, endpoint=True)


U16, I16, U32, I32 = (numbers(kind) for kind in (np.uint16, np.int16, np.uint32, np.int32))
U8, I8 = numbers(np.uint8), numbers(np.int8)
F32 = RNG.normal(size=SHAPE).astype(np.float32)


@pytest.mark.parametrize(
    ("file", "values"),
    {
        "PNG": (png(U16, 16, GREY), U16),
        "PGM": (b"P5 16 8 65535\n" + U16.astype(">u2").tobytes(), U16),
        "JPEG 2000": (encoded(Image.fromarray(U16), "JPEG2000"), U16),
        "FITS": (fits(I16), I16),
        "PFM": (b"Pf\n16 8\n-1.0\n" + F32[::-1].astype("<f4").tobytes(), F32),
        "TIFF white is zero": (tiff(U16, photometric=0), 65535 - U16),
        "TIFF white is zero, packed": (tiff(U16, photometric=0, compressed=True), 65535 - U16),
        "TIFF float, white is zero": (tiff(F32, photometric=0), -F32),
        "TIFF 32": (tiff(U32), U32),
        "TIFF 32, packed": (tiff(U32, compressed=True), U32),
        "TIFF signed 8": (tiff(I8), I8),
        "TIFF signed 8, packed": (tiff(I8, order=">", compressed=True), I8),
    }.values(),
)
def test_deep_greys_keep_their_values(file: bytes, values: NDArray[Any]) -> None:
    np.testing.assert_array_equal(pixels_of(opened(file)), values)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("values", [U16, I16, I32, F32], ids=lambda values: values.dtype.name)
def test_deep_tiffs_of_both_byte_orders(
    values: NDArray[Any], order: Literal["<", ">"], compressed: bool
) -> None:
    file = tiff(values, order=order, compressed=compressed)
    np.testing.assert_array_equal(pixels_of(opened(file)), values)


def laid_on(rgb: NDArray[Any], alpha: NDArray[Any], background: float = 255) -> NDArray[Any]:
    """Return RGB of any range on a background, with alpha from 0 to 1."""
    opacity = alpha.astype(float)[..., None]
    mixed: NDArray[Any] = rgb * opacity + background * (1 - opacity)
    return mixed


def as_rgb(grey: NDArray[Any]) -> NDArray[Any]:
    return grey[..., None].repeat(3, axis=-1)


COLOUR, ALPHA = numbers(np.uint8, *SHAPE, 3), numbers(np.uint8)
ALPHA[:2] = 0
ON_WHITE, GREY_ON_WHITE = laid_on(COLOUR, ALPHA / 255), laid_on(as_rgb(U8), ALPHA / 255)
RGBA, LA = np.dstack([COLOUR, ALPHA]), np.dstack([U8, ALPHA])
DEEP_RGBA = np.dstack([COLOUR, ALPHA]).astype(np.uint16) * 257
DEEP_LA = np.dstack([U8, ALPHA]).astype(np.uint16) * 257
PREMULTIPLIED = np.dstack([np.rint(COLOUR * (ALPHA[..., None] / 255)), ALPHA]).astype(np.uint8)
GREY_PREMULTIPLIED = np.dstack([np.rint(U8 * (ALPHA / 255)), ALPHA]).astype(np.uint8)


@pytest.mark.parametrize(
    ("file", "expected"),
    {
        "PNG RGBA": (png(RGBA, 8, RGB_ALPHA), ON_WHITE),
        "PNG RGBA 16": (png(DEEP_RGBA, 16, RGB_ALPHA), ON_WHITE),
        "PNG LA": (png(LA, 8, GREY_ALPHA), GREY_ON_WHITE),
        "PNG LA 16": (png(DEEP_LA, 16, GREY_ALPHA), GREY_ON_WHITE),
        "WebP": (encoded(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True), ON_WHITE),
        "BMP": (bmp(RGBA), ON_WHITE),
        "TGA": (tga(RGBA), ON_WHITE),
        "TIFF RGBA": (tiff(RGBA, photometric=2, extra=2), ON_WHITE),
        "TIFF RGBa": (tiff(PREMULTIPLIED, photometric=2, extra=1), ON_WHITE),
        "TIFF LA": (tiff(LA, extra=2), GREY_ON_WHITE),
        "TIFF La": (tiff(GREY_PREMULTIPLIED, extra=1), GREY_ON_WHITE),
    }.values(),
)
def test_alpha_is_laid_on_white(file: bytes, expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(pixels_of(opened(file)), expected, atol=1.5)


def keyed(grey: NDArray[Any], key: int, white: int = 255) -> NDArray[Any]:
    return np.where(grey == key, white, grey)


BITS1, BITS2, BITS4 = (RNG.integers(0, 2**bits, SHAPE) for bits in (1, 2, 4))
TABLE = numbers(np.uint8, 256, 3)
TABLE_ALPHA = np.array([0, 128, 255, 7], np.uint8)


@pytest.mark.parametrize(
    ("file", "expected"),
    {
        "grey 1": (png(BITS1, 1, GREY, transparent(0)), as_rgb(keyed(BITS1, 0, 1) * 255)),
        "grey 2": (png(BITS2, 2, GREY, transparent(1)), as_rgb(keyed(BITS2, 1, 3) * 85)),
        "grey 4": (png(BITS4, 4, GREY, transparent(5)), as_rgb(keyed(BITS4, 5, 15) * 17)),
        "grey 8": (png(U8, 8, GREY, transparent(U8[1, 1])), as_rgb(keyed(U8, U8[1, 1]))),
        "grey 16": (png(U16, 16, GREY, transparent(U16[1, 1])), keyed(U16, U16[1, 1], 65535)),
        "RGB": (
            png(COLOUR, 8, RGB, transparent(*COLOUR[2, 3])),
            np.where((COLOUR[2, 3] == COLOUR).all(axis=2, keepdims=True), 255, COLOUR),
        ),
        "palette": (
            png(
                BITS2, 8, PALETTE, chunk(b"PLTE", TABLE.tobytes()), chunk(b"tRNS", b"\0\x80\xff\7")
            ),
            laid_on(TABLE[BITS2], TABLE_ALPHA[BITS2] / 255),
        ),
        "short palette": (
            png(BITS4, 4, PALETTE, chunk(b"PLTE", TABLE.tobytes()), chunk(b"tRNS", b"\xff\0")),
            laid_on(TABLE[BITS4], BITS4 != 1),
        ),
        "GIF": (
            encoded(Image.fromarray(BITS4.astype(np.uint8)), "GIF", transparency=3),
            as_rgb(keyed(BITS4, 3)),
        ),
    }.values(),
)
def test_a_transparent_colour_is_laid_on_white(file: bytes, expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(pixels_of(opened(file)), expected, atol=1)


def test_the_palette_of_a_gif_with_a_transparent_colour() -> None:
    image = Image.fromarray(BITS4.astype(np.uint8), "P")
    image.putpalette(TABLE.tobytes())
    file = encoded(image, "GIF", transparency=3)
    assert opened(file).mode == "P"
    np.testing.assert_array_equal(pixels_of(opened(file)), laid_on(TABLE[BITS4], BITS4 != 3))


@pytest.mark.parametrize("write", [bmp, tga])
def test_an_alpha_that_is_zero_everywhere_is_ignored_where_it_often_is_unused(
    write: Callable[[NDArray[Any]], bytes],
) -> None:
    file = write(np.dstack([COLOUR, np.zeros_like(ALPHA)]))
    np.testing.assert_array_equal(pixels_of(opened(file)), COLOUR)


@pytest.mark.parametrize("mode", ["RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"])
def test_colours_in_memory_are_converted(mode: str) -> None:
    rgb = Image.fromarray(COLOUR)
    image = rgb.convert("RGBA").convert(mode) if mode == "RGBa" else rgb.convert(mode)
    assert image.mode == mode
    found = pixels_of(image).astype(float)
    away = np.abs(found - COLOUR)
    assert found.shape == COLOUR.shape
    assert np.median(away) <= 2  # LAB and HSV are rounded to 8 bits.


def test_greys_and_palettes_in_memory_are_converted() -> None:
    grey, alpha = Image.fromarray(U8), Image.fromarray(ALPHA)
    palette = Image.fromarray(U8, "P")
    palette.putpalette(TABLE.tobytes())
    with_alpha = Image.merge("PA", (palette, alpha))
    np.testing.assert_allclose(pixels_of(with_alpha), laid_on(TABLE[U8], ALPHA / 255), atol=1)
    palette.putpalette(np.dstack([TABLE[None], U8.ravel()[:128].repeat(2)[None]]).tobytes(), "RGBA")
    expected = laid_on(TABLE[U8], U8.ravel()[:128].repeat(2)[U8] / 255)
    np.testing.assert_allclose(pixels_of(palette), expected, atol=1)
    la = Image.merge("LA", (grey, alpha))
    np.testing.assert_allclose(pixels_of(la.convert("La")), GREY_ON_WHITE, atol=1.5)
    two = Image.fromarray(U8 > 99)
    assert two.mode == "1"
    np.testing.assert_array_equal(pixels_of(two), as_rgb((U8 > 99) * 255))


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N", "I", "F"])
def test_deep_greys_in_memory(mode: str) -> None:
    image = Image.new(mode, (2, 1))
    image.putpixel((1, 0), 40_000)
    np.testing.assert_array_equal(pixels_of(image), [[0, 40_000]])


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK"])
def test_opaque_images_of_8_bits_are_converted_as_by_pillow(mode: str) -> None:
    file = encoded(Image.fromarray(COLOUR).convert(mode), "TIFF")
    pixels = pixels_of(opened(file))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(opened(file).convert("RGB")))
    if mode in ("RGB", "L"):
        with_alpha = opened(file).convert("RGBA" if mode == "RGB" else "LA")
        np.testing.assert_array_equal(pixels_of(with_alpha), pixels)


def test_the_background() -> None:
    on_black = pixels_of(opened(png(RGBA, 8, RGB_ALPHA)), background="#000")
    np.testing.assert_allclose(on_black, laid_on(COLOUR, ALPHA / 255, 0), atol=1)
    deep = pixels_of(opened(png(U16, 16, GREY, transparent(U16[0, 0]))), background="#102030")
    np.testing.assert_array_equal(deep, keyed(U16, U16[0, 0], 257 * 0x20))


TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: np.swapaxes(pixels, 0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(np.swapaxes(pixels, 0, 1), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", [U16, COLOUR, RGBA], ids=["deep", "RGB", "RGBA"])
def test_the_exif_orientation_is_applied_to_every_mode(
    pixels: NDArray[Any], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = pixels_of(Image.fromarray(pixels))
    for kind in ("PNG", "TIFF"):
        file = encoded(Image.fromarray(pixels), kind, exif=exif)
        np.testing.assert_array_equal(pixels_of(opened(file)), TURNS[orientation](upright))


def test_the_orientation_is_also_read_from_xmp() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    file = encoded(Image.fromarray(COLOUR), "WEBP", lossless=True, xmp=xmp)
    np.testing.assert_array_equal(pixels_of(opened(file)), np.rot90(COLOUR, -1))


def test_the_orientation_may_come_after_the_pixels_of_a_png() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    whole = png(COLOUR, 8, RGB)
    file = whole[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + whole[-12:]
    np.testing.assert_array_equal(pixels_of(opened(file)), np.rot90(COLOUR, 2))


def test_the_colours_of_a_cmyk_jpeg() -> None:
    """Adobe writes them inverted."""
    file = encoded(Image.new("RGB", (8, 8), (200, 30, 60)).convert("CMYK"), "JPEG", quality=95)
    assert opened(file).mode == "CMYK"
    assert (np.abs(pixels_of(opened(file)) - np.array([200, 30, 60])) < 6).all()


@pytest.mark.parametrize("pixels", [RGBA, COLOUR, U8], ids=["RGBA", "RGB", "L"])
def test_large_images_are_converted_strip_by_strip(
    pixels: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pixels_of(Image.fromarray(pixels))
    for step in (1, 3 * 16, 5 * 16 + 7):
        monkeypatch.setattr("hashing.gist.pixels._STRIP_PIXELS", step)
        np.testing.assert_array_equal(pixels_of(Image.fromarray(pixels)), whole)
    assert pixels_of(Image.new("RGB", (0, 3))).shape == (3, 0, 3)


def test_the_image_of_the_caller_stays_as_it_was() -> None:
    image = Image.fromarray(RGBA)
    pixels_of(image)
    np.testing.assert_array_equal(np.asarray(image), RGBA)


@pytest.mark.parametrize(
    ("message", "file"),
    [
        ("got NaN or infinite", tiff(np.array([[1, np.nan]], np.float32))),
        ("got NaN or infinite", tiff(np.array([[1, np.inf]], np.float32), photometric=0)),
        (
            "16 bits and a transparent colour",
            png(DEEP_RGBA[..., :3], 16, RGB, transparent(1, 2, 3)),
        ),
    ],
)
def test_what_cannot_be_converted_is_refused(message: str, file: bytes) -> None:
    with pytest.raises(ValueError, match=message):
        pixels_of(opened(file))


def test_unknown_modes_and_colours_are_refused() -> None:
    image = Image.new("RGB", (2, 2))
    with pytest.raises(ValueError, match="unknown color specifier: 'snow white'"):
        pixels_of(image, background="snow white")
    with pytest.raises(ValueError, match="expected an opaque colour, got '#ffffff80'"):
        pixels_of(image, background="#ffffff80")
    image._mode = "XYZ"
    with pytest.raises(ValueError, match="images of mode XYZ are not supported"):
        pixels_of(image)
