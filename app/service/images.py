"""GIST descriptors of image files."""

from __future__ import annotations

import io
import struct
import time
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
MAX_SIDE = 65_535
"""Longest side of an image: that of the JPEG format. A row takes memory and time of its own."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats that the service accepts. Pillow reads fifty more, some through external programs."""
MAX_SCANS = 100
"""Largest number of scans in a JPEG. A progressive one has about ten. A scan takes few bytes, but
each costs a pass over all pixels."""
MAX_READS = 500_000
"""Largest number of parts that Pillow reads from a file. It takes segments, chunks, comments and
runs of pixels apart in Python, where a file of one mebibyte can hold a million of them."""
MAX_HEAD = 4 << 20
"""Most bytes before the pixels, such as EXIF and colour profiles. What Pillow does with them can
take much longer than reading them."""
MAX_PROFILES = 10
"""Largest number of colour profiles in a PNG. Each can be a mebibyte in a kibibyte of the file."""
SECONDS_PER_PIXEL, LEAST_SECONDS = 2.5e-7, 10.0
"""Computing time for the images of a request: for each pixel that is allowed, and at least. Once it
is used up, the remaining images are refused. Ordinary images take less than half of it."""
LEAST_PIXELS = 1 << 16
"""Pixels that the smallest image counts for: it takes as much time as one of this size."""
RUN_LENGTH_WEIGHT = 10
"""Pixels that a pixel of a run-length encoded BMP counts for. Pillow decodes those in Python."""
# How files of a format begin, what is counted in them, and how many there may be.
_COUNTED = (
    (b"\xff\xd8", b"\xff\xda", MAX_SCANS, "scans"),
    (b"\x89PNG", b"iCCP", MAX_PROFILES, "colour profiles"),
)
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
        image counts for `LEAST_PIXELS`; a run-length encoded one for `RUN_LENGTH_WEIGHT` times its
        pixels.

    Returns
    -------
    (n, 384) float32
        The same descriptors as those of `bitcell gist`.

    Raises
    ------
    TooLarge
        The files have more pixels or take too long, a side is too long, or a file has too many
        parts, too much metadata, or too many scans or colour profiles.
    InvalidInput
        A file is damaged, or is not an image.
    """
    descriptors, left = [], max_pixels
    seconds = max(LEAST_SECONDS, max_pixels * SECONDS_PER_PIXEL)
    start = time.thread_time()
    for place, file in enumerate(files):
        if place and time.thread_time() - start > seconds:
            raise TooLarge(
                f"the images of a request may take {seconds:g} s of computing, and the first "
                f"{place} took longer: send fewer in one request"
            )
        try:
            _check_counts(file)
            pixels, counted = _read(_Reader(file), left, FORMATS)
        except _TooManyPixels as error:
            raise TooLarge(
                f"the images of a request have at most {max_pixels:,} pixels together "
                f"(BITCELL_MAX_PIXELS); image {place} with {error} exceeds that"
            ) from None
        except _TooMuch as error:
            raise TooLarge(f"image {place} has {error}") from None
        except _UNREADABLE as error:
            raise InvalidInput(
                f"image {place} cannot be read as {', '.join(FORMATS)}: {_reason(error)}"
            ) from None
        left -= max(counted, LEAST_PIXELS)
        descriptors.append(gist().transform(pixels[None])[0])
    return np.array(descriptors)


@cache
def gist() -> Gist:
    """Return the one descriptor that the service computes; its filters take a while to make."""
    return Gist()


def describe_file(path: Path) -> NDArray[np.float32]:
    """Return the GIST descriptor of an image file in any format that Pillow reads, (384,).

    Raise ValueError, with the path, if the file cannot be read, has more than `MAX_PIXELS`, or has
    a side of more than `MAX_SIDE`.
    """
    try:
        pixels, _ = _read(path, MAX_PIXELS)
    except _TooManyPixels as error:
        raise ValueError(f"{path} has {error} pixels, more than {MAX_PIXELS:,}") from None
    except _TooMuch as error:
        raise ValueError(f"{path} has {error}") from None
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be read as an image: {_reason(error)}") from None
    descriptor: NDArray[np.float32] = gist().transform(pixels[None])[0]
    return descriptor


class _TooManyPixels(Exception):
    pass


class _TooMuch(Exception):
    """What else a file has too much of."""


class _Reader(io.BytesIO):
    """An image file that counts what Pillow reads, and raises _TooMuch beyond the limits."""

    def __init__(self, file: bytes) -> None:
        super().__init__(file)
        self._reads = self._head = 0
        self.in_head = True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        data = super().read(size)
        self._reads += 1
        if self._reads > MAX_READS:
            raise _TooMuch(f"more than {MAX_READS:,} chunks, segments or runs of pixels")
        # Pillow reads a WebP as a whole, and takes none of it apart.
        if self.in_head and size != -1:
            self._head += len(data)
            if self._head > MAX_HEAD:
                raise _TooMuch(
                    f"more than {MAX_HEAD >> 20} MiB before its pixels: remove its metadata"
                )
        return data


def _check_counts(file: bytes) -> None:
    """Raise _TooMuch if a file has too many of what takes few bytes and much time."""
    for start, mark, limit, what in _COUNTED:
        # Other formats may contain the same bytes by chance.
        if file.startswith(start) and (count := file.count(mark)) > limit:
            raise _TooMuch(f"{count:,} {what}, more than {limit}")


def _read(
    file: Path | _Reader, max_pixels: int, formats: tuple[str, ...] | None = None
) -> tuple[NDArray[np.uint8], int]:
    """Return the pixels of an image file, (h, w, 3), and how many it counts for.

    The EXIF orientation is applied.
    """
    with warnings.catch_warnings():
        # Pillow warns of what it repairs, such as damaged EXIF, and of many pixels, which we count.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(file, formats=formats)
        except Image.DecompressionBombError:
            raise _TooManyPixels("far too many") from None
        with image:
            if isinstance(file, _Reader):
                file.in_head = False
            counted = _check_size(image, max_pixels)
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB")), counted


def _check_size(image: Image.Image, max_pixels: int) -> int:
    """Return how many pixels an image counts for; raise if it is too large."""
    tiles = getattr(image, "tile", [])
    weight = RUN_LENGTH_WEIGHT if any(tile[0] == "bmp_rle" for tile in tiles) else 1
    counted = image.width * image.height * weight
    if counted > max_pixels:
        times = f" (run-length encoded: each counts as {weight})" if weight > 1 else ""
        raise _TooManyPixels(f"{image.width} x {image.height}{times}")
    if max(image.size) > MAX_SIDE:
        raise _TooMuch(f"{image.width} x {image.height} pixels; a side has at most {MAX_SIDE:,}")
    return counted


def _reason(error: Exception) -> str:
    text = str(error)
    # Pillow's own message contains a memory address.
    return "no such format" if isinstance(error, UnidentifiedImageError) else text
