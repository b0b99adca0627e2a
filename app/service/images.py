"""GIST descriptors of image files."""

from __future__ import annotations

import io
import struct
import time
import warnings
import zlib
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from app.errors import TooLarge
from hashing.gist import Gist
from hashing.gist.pixels import pixels_of
from hashing.validation import InvalidInput

MAX_PIXELS = 100_000_000
"""Largest image on the command line."""
MAX_SIDE = 65_535
"""Longest side of an image: that of the JPEG format. A row takes memory and time of its own."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats that the service accepts; the command line accepts nearly all that Pillow reads."""
_NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PALM", "PDF", "WMF")
"""Formats that Pillow only writes, or recognises and leaves to programs such as Ghostscript."""
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
        PNG, JPEG, WebP, GIF or BMP. `pixels_of` says how their pixels are converted. An animation
        counts as its first frame.
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


def describe_file(path: Path, background: str = "white") -> NDArray[np.float32]:
    """Return the GIST descriptor of an image file, (384,).

    Any format is accepted that Pillow decodes itself. `background` is as for `pixels_of`.

    Raise ValueError, with the reason but without the path, if the file cannot be read, has more
    than `MAX_PIXELS`, or has a side of more than `MAX_SIDE`.
    """
    try:
        if path.exists() and not path.is_file():  # A pipe might never end.
            raise ValueError("it is a folder, a pipe or a device")
        pixels, _ = _read(path, MAX_PIXELS, decoded_formats(), background)
        descriptor: NDArray[np.float32] = gist().transform(pixels[None])[0]
    except _TooManyPixels as error:
        raise ValueError(f"{error} pixels are more than {MAX_PIXELS:,}") from None
    except Exception as error:  # The readers of fifty formats raise anything.
        raise ValueError(_reason(error)) from error
    return descriptor


@cache
def decoded_formats() -> tuple[str, ...]:
    """Return the names of all formats that Pillow decodes itself."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _NOT_DECODED)


@cache
def suffixes() -> frozenset[str]:
    """Return how the names of files in those formats end, in lower case."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, name in known.items() if name not in _NOT_DECODED)


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
    file: Path | _Reader, max_pixels: int, formats: tuple[str, ...], background: str = "white"
) -> tuple[NDArray[Any], int]:
    """Return the pixels of an image file, and how many it counts for."""
    with warnings.catch_warnings():
        # Pillow warns of what it repairs, such as damaged EXIF, and of many pixels, which we count.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(file, formats=formats)
        except Image.DecompressionBombError:
            raise _TooManyPixels("far too many") from None
        except UnidentifiedImageError:
            raise OSError(_unidentified(file, formats)) from None
        with image:
            if isinstance(file, _Reader):
                file.in_head = False
            counted = _check_size(image, max_pixels)
            return pixels_of(image, background), counted


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


def _unidentified(file: Path | _Reader, formats: tuple[str, ...]) -> str:
    """Say why Pillow can open a file in none of the formats."""
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
        opened.seek(0)
        start = opened.read(16)
    for name in formats if len(start) == 16 else ():
        accepts = Image.OPEN[name][1]
        if accepts and accepts(start) is True:
            return f"it begins as {name} does, but is damaged or of a kind that Pillow cannot read"
    return "no such format"


def _reason(error: Exception) -> str:
    """Return what an error says, without the path that errors of the system repeat."""
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error) or type(error).__name__
