"""The pixels of Pillow's images, as `Gist.transform` takes them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageColor, ImageFile, ImageOps

_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Modes of grey images with more than 8 bits. Pillow's conversion to RGB clips them at 255."""
_EIGHT_BIT = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_ALPHA_OFTEN_UNUSED = ("BMP", "DIB", "TGA")
"""Formats of which many writers leave alpha zero everywhere and mean an opaque image."""
_GREY_SCALES = {"L;2": 85, "L;4": 17}
"""By what Pillow multiplies the samples of a grey PNG of 2 or 4 bits."""
_NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
"""libtiff returns samples in the order of this machine. Pillow knows that of unsigned 16 bits only,
and would swap the bytes of these again."""
_STRIP_PIXELS = 1 << 18
"""Pixels that are converted at a time, which saves memory for copies of the image."""
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a tag of TIFF, and a value of it
_SAMPLE_FORMAT, _SIGNED = 339, 2


def pixels_of(image: Image.Image, background: str = "white") -> NDArray[Any]:
    """Return the pixels of an image: upright, opaque, and with all bits of deep greys.

    Parameters
    ----------
    image : PIL.Image.Image
        An image as `PIL.Image.open` returns it, or one made in memory. Do not load its pixels
        before: part of what a file says about them is lost by then.
    background : str
        The colour that transparent and translucent pixels are laid on, as Pillow writes colours:
        a name, ``#rrggbb``, ``rgb(…)`` or ``hsl(…)``.

    Returns
    -------
    ndarray, shape (h, w, 3) or (h, w)
        RGB as uint8. The grey values of an image with more than 8 bits are returned as they are,
        since GIST does not depend on their range. The EXIF orientation is applied.

    Raises
    ------
    ValueError
        The image has an unknown mode, or floats that are not finite, or which of its pixels are
        transparent cannot be told; or `background` is not an opaque colour.
    """
    colour = opaque_colour(background)
    source = _source(image)
    image.load()
    if image.mode not in _DEEP + _EIGHT_BIT + _WITH_ALPHA:
        raise ValueError(f"images of mode {image.mode} are not supported")
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP or source.signed_bytes:
        return _greys(image, source, colour)
    if image.has_transparency_data and _transparency_is_meant(image, source):
        return _rgb_of(image, colour)
    return _rgb_of(image, None)


def opaque_colour(background: str) -> tuple[int, int, int]:
    """Return the red, green and blue of a colour; ValueError if it is none, or has an alpha."""
    colour = ImageColor.getrgb(background)
    if len(colour) != 3:
        raise ValueError(f"expected an opaque colour, got {background!r}")
    return colour


class _Source(NamedTuple):
    """What a file says about its samples, which Pillow ignores or forgets when it loads them."""

    format: str | None
    raw_mode: str
    white_is_zero: bool
    signed_bytes: bool


def _source(image: Image.Image) -> _Source:
    """Return what the file of an image says, and correct how Pillow will read it."""
    raw_mode, tags = "", getattr(image, "tag_v2", {})
    if isinstance(image, ImageFile.ImageFile) and image.tile:
        first = image.tile[0]
        arguments = first.args if isinstance(first.args, tuple) else (first.args,)
        raw_mode = str(arguments[0]) if arguments else ""
        if first.codec_name == "libtiff" and raw_mode in _NATIVE:
            corrected = (_NATIVE[raw_mode], *arguments[1:])
            image.tile = [tile._replace(args=corrected) for tile in image.tile]
    signed = image.mode == "L" and tags.get(_SAMPLE_FORMAT) == (_SIGNED,)
    return _Source(image.format, raw_mode, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO, signed)


def _greys(
    image: Image.Image, source: _Source, background: tuple[int, int, int]
) -> NDArray[np.number[Any]]:
    """Return the grey values of an image, of which Pillow misreads some kinds."""
    values: NDArray[Any] = np.asarray(image)
    if source.signed_bytes:
        return values.view(np.int8)
    if source.format == "FITS" and image.mode == "I;16":
        return values.view(np.int16)
    if source.format == "TIFF" and source.raw_mode == "I;32N":
        return values.view(np.uint32)
    if image.mode == "F" and not np.isfinite(values).all():
        raise ValueError("expected finite values, got NaN or infinite ones")
    if source.white_is_zero:
        return -values if image.mode == "F" else ~values
    if (transparent := image.info.get("transparency")) is not None:  # of a PNG of 16 bits
        white = np.uint16(round(257 * sum(background) / 3))
        return np.where(values == transparent, white, values)
    return values


def _transparency_is_meant(image: Image.Image, source: _Source) -> bool:
    """Return whether pixels are transparent; correct which, or raise ValueError if it is lost."""
    transparent = image.info.get("transparency")
    if source.raw_mode == "RGB;16B" and transparent is not None:
        raise ValueError(
            "of RGB with 16 bits and a transparent colour (tRNS), Pillow keeps 8 bits, which do "
            "not tell which pixels are transparent: save it with an alpha channel"
        )
    if isinstance(transparent, int) and source.raw_mode in _GREY_SCALES:
        image.info["transparency"] = transparent * _GREY_SCALES[source.raw_mode]
    unused = source.format in _ALPHA_OFTEN_UNUSED and image.mode in ("RGBA", "LA")
    return not (unused and image.getchannel("A").getextrema() == (0, 0))


def _rgb_of(image: Image.Image, background: tuple[int, int, int] | None) -> NDArray[np.uint8]:
    """Return an image as RGB, strip by strip; laid on a background if there is one."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    step = max(1, _STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, step):
        strip = image.crop((0, top, image.width, min(top + step, image.height)))
        if background is not None:
            strip = _laid_on(background, strip)
        strip = strip if strip.mode == "RGB" else strip.convert("RGB")
        pixels[top : top + step] = np.asarray(strip)
    return pixels


def _laid_on(background: tuple[int, int, int], image: Image.Image) -> Image.Image:
    """Return an image with transparency laid on a background, as RGB."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image)
    return canvas
