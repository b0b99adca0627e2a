"""GIST descriptors of image files."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from app.errors import TooLarge
from hashing.gist import Gist
from hashing.validation import InvalidInput

MAX_PIXELS = 100_000_000
"""Largest image on the command line."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats that the service accepts. Pillow reads fifty more, some through external programs."""
MAX_SCANS = 100
"""Largest number of scans in a JPEG. A progressive one has about ten. A scan takes few bytes, but
each costs a pass over all pixels."""
LEAST_PIXELS = 1 << 16
"""Pixels that the smallest image counts for: it takes as much time as one of this size."""
_JPEG, _SCAN = b"\xff\xd8", b"\xff\xda"
# What Pillow raises for truncated, damaged and malicious files.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def describe(files: list[bytes], max_pixels: int) -> NDArray[np.float32]:
    """Return the GIST descriptors of image files from outside.

    Parameters
    ----------
    files : list of bytes
        PNG, JPEG, WebP, GIF or BMP. The EXIF orientation is applied; an animation counts as its
        first frame.
    max_pixels : int
        Limit on the pixels of all files together, checked before any pixel is decoded. A small
        image counts for `LEAST_PIXELS`.

    Returns
    -------
    (n, 384) float32
        The same descriptors as those of `bitcell gist`.

    Raises
    ------
    TooLarge
        The files have more pixels, or a JPEG has too many scans.
    InvalidInput
        A file is damaged, or is not an image.
    """
    descriptors, left = [], max_pixels
    for place, file in enumerate(files):
        # Other formats contain these two bytes by chance.
        if file.startswith(_JPEG) and (scans := file.count(_SCAN)) > MAX_SCANS:
            raise TooLarge(f"image {place} has {scans} scans, more than {MAX_SCANS}")
        try:
            pixels = _read(io.BytesIO(file), left, FORMATS)
        except _TooManyPixels as error:
            raise TooLarge(
                f"the images of a request have at most {max_pixels:,} pixels together "
                f"(BITCELL_MAX_PIXELS); image {place} with {error} exceeds that"
            ) from None
        except _UNREADABLE as error:
            raise InvalidInput(
                f"image {place} cannot be read as {', '.join(FORMATS)}: {_reason(error)}"
            ) from None
        left -= max(pixels.shape[0] * pixels.shape[1], LEAST_PIXELS)
        descriptors.append(gist().transform(pixels[None])[0])
    return np.array(descriptors)


@cache
def gist() -> Gist:
    """Return the one descriptor that the service computes; its filters take a while to make."""
    return Gist()


def describe_file(path: Path) -> NDArray[np.float32]:
    """Return the GIST descriptor of an image file in any format that Pillow reads, (384,).

    Raise ValueError, with the path, if the file cannot be read or has more than `MAX_PIXELS`.
    """
    try:
        pixels = _read(path, MAX_PIXELS)
    except _TooManyPixels as error:
        raise ValueError(f"{path} has {error} pixels, more than {MAX_PIXELS:,}") from None
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be read as an image: {_reason(error)}") from None
    descriptor: NDArray[np.float32] = gist().transform(pixels[None])[0]
    return descriptor


class _TooManyPixels(Exception):
    pass


def _read(
    file: Path | io.BytesIO, max_pixels: int, formats: tuple[str, ...] | None = None
) -> NDArray[np.uint8]:
    """Return the pixels of an image file, (h, w, 3), with the EXIF orientation applied."""
    with warnings.catch_warnings():
        # Pillow warns of what it repairs, such as damaged EXIF, and of many pixels, which we count.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(file, formats=formats)
        except Image.DecompressionBombError:
            raise _TooManyPixels("far too many") from None
        with image:
            if image.width * image.height > max_pixels:
                raise _TooManyPixels(f"{image.width} x {image.height}")
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB"))


def _reason(error: Exception) -> str:
    text = str(error)
    # Pillow's own message contains a memory address.
    return "no such format" if isinstance(error, UnidentifiedImageError) else text
