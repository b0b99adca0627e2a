"""Image files to GIST descriptors."""

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
from rich.console import Console
from rich.progress import track

from app.http.problems import TooLarge
from hashing.atomic_file import atomic_write
from hashing.gist import Gist
from hashing.validation import InvalidInput

MAX_PIXELS = 100_000_000
# What browsers show. Pillow reads fifty more, some by programs of their own.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
# Progressive JPEGs have some ten; each costs a pass over all the pixels and takes few bytes.
MAX_SCANS = 100
_JPEG, _SCAN = b"\xff\xd8", b"\xff\xda"
# Of the pixels of a request the smallest image takes as many: it costs as much time.
LEAST_PIXELS = 1 << 16
# What Pillow raises of files that are cut off, damaged, or made to be.
_BROKEN = (
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
    """GIST descriptors of image files from outside, one file at a time.

    Parameters
    ----------
    files : list of bytes
        PNG, JPEG, WebP, GIF or BMP; of an animation the first picture. Turned upright where EXIF
        says how.
    max_pixels : int
        In all the files together: looked up before any pixel is unpacked. A small one counts for
        `LEAST_PIXELS`.

    Returns
    -------
    (n, 384) float32
        As `bitcell gist` makes them.

    Raises
    ------
    TooLarge
        There are more pixels.
    InvalidInput
        A file is no image, or a damaged one.
    """
    descriptors, left = [], max_pixels
    for place, file in enumerate(files):
        # In other formats the two bytes mean nothing, and come by chance.
        if file.startswith(_JPEG) and (scans := file.count(_SCAN)) > MAX_SCANS:
            raise TooLarge(f"image {place} has {scans} scans, more than {MAX_SCANS}")
        try:
            pixels = _read(io.BytesIO(file), left, FORMATS)
        except _TooManyPixels as error:
            raise TooLarge(
                f"the images of a request have at most {max_pixels:,} pixels in all "
                f"(BITCELL_MAX_PIXELS), {error} in image {place} are too many"
            ) from None
        except _BROKEN as error:
            raise InvalidInput(
                f"image {place} cannot be read as {', '.join(FORMATS)}: {_reason(error)}"
            ) from None
        left -= max(pixels.shape[0] * pixels.shape[1], LEAST_PIXELS)
        descriptors.append(gist().transform(pixels[None])[0])
    return np.array(descriptors)


@cache
def gist() -> Gist:
    """The descriptors that the service makes: filters take a while to compute."""
    return Gist()


def describe_files(paths: list[Path], out: Path) -> None:
    """Write an `.npz` dataset of the GIST descriptors of image files: labels are -1, ids the paths.

    Raises
    ------
    ValueError
        A file that is no image, or one of more than 100 million pixels; nothing is written.
    """
    console = Console(stderr=True)
    descriptors = [
        gist().transform(_read_path(path)[None])[0]
        for path in track(paths, "describing", console=console, transient=True)
    ]
    with atomic_write(out) as file:
        np.savez(
            file,
            descriptors=np.array(descriptors),
            labels=np.full(len(paths), -1),
            ids=np.array([str(path) for path in paths]),
            mirror=gist().mirror,
        )
    Console().print(f"{out}: {len(paths)} descriptors of dimension {gist().dimension}")


def _read_path(path: Path) -> NDArray[np.uint8]:
    try:
        return _read(path, MAX_PIXELS)
    except _TooManyPixels as error:
        raise ValueError(f"{path} has {error} pixels, more than {MAX_PIXELS:,}") from None
    except _BROKEN as error:
        raise ValueError(f"{path} cannot be read as an image: {_reason(error)}") from None


class _TooManyPixels(Exception):
    pass


def _read(
    file: Path | io.BytesIO, max_pixels: int, formats: tuple[str, ...] | None = None
) -> NDArray[np.uint8]:
    """An image file as (h, w, 3), upright."""
    with warnings.catch_warnings():
        # Of what it makes good, such as damaged EXIF; the pixels are counted here.
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
    # Pillow names a body by its place in memory.
    return "no such format" if isinstance(error, UnidentifiedImageError) else text
