"""Image files written byte by byte, of kinds that Pillow itself does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # colour types of PNG


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """Return a chunk of a PNG."""
    sealed = kind + data
    return struct.pack(">I", len(data)) + sealed + struct.pack(">I", zlib.crc32(sealed))


def png(samples: NDArray[np.integer], bits: int, colour: int, *chunks: bytes) -> bytes:
    """Return a PNG of samples, (h, w) or (h, w, channels), with chunks before its pixels."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if bits == 16:
        packed = rows.astype(">u2").view(np.uint8).reshape(height, -1)
    else:
        each_bit = (rows[:, :, None] >> np.arange(bits)[::-1]) & 1
        packed = np.packbits(each_bit.reshape(height, -1).astype(np.uint8), axis=1)
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", body), chunk(b"IEND")]
    )


def transparent(*samples: int) -> bytes:
    """Return the tRNS chunk of a grey or RGB PNG in which this colour is transparent."""
    return chunk(b"tRNS", struct.pack(f">{len(samples)}H", *samples))


def tiff(
    samples: NDArray[np.number],
    *,
    order: Literal["<", ">"] = "<",
    photometric: int = 1,
    extra: int | None = None,
    compressed: bool = False,
) -> bytes:
    """Return a TIFF of samples, (h, w) or (h, w, channels), in little- or big-endian order."""
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if compressed else data
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    sample_format = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    short, long = 3, 4
    tags: list[tuple[int, int, Sequence[int]]] = [
        (256, long, [width]),
        (257, long, [height]),
        (258, short, [8 * samples.dtype.itemsize] * channels),
        (259, short, [8 if compressed else 1]),
        (262, short, [photometric]),
        (273, long, [8]),
        (277, short, [channels]),
        (278, long, [height]),
        (279, long, [len(data)]),
        *([(338, short, [extra])] if extra is not None else []),
        (339, short, [sample_format] * channels),
    ]
    data += b"\0" * (len(data) % 2)
    directory, beyond = b"", b""
    after = 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, kind, values in tags:
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == short else 'I'}", *values)
        if len(packed) > 4:
            packed, beyond = struct.pack(order + "I", after + len(beyond)), beyond + packed
        directory += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(data))
    count = struct.pack(order + "H", len(tags))
    return head + data + count + directory + bytes(4) + beyond


def fits(samples: NDArray[np.int16]) -> bytes:
    """Return a FITS file of 16 bits, whose last row is the top of the image."""
    height, width = samples.shape
    cards = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": width, "NAXIS2": height}
    head = "".join(f"{key:<8}= {value:>20}".ljust(80) for key, value in cards.items())
    data = samples[::-1].astype(">i2").tobytes()
    return (head + "END").ljust(2880).encode() + data + bytes(-len(data) % 2880)


def bmp(samples: NDArray[np.uint8]) -> bytes:
    """Return a BMP of samples (h, w, 4) in the order RGBA, with a mask for alpha."""
    height, width = samples.shape[:2]
    data = samples[::-1, :, [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(data), 0, 0, 0, 0)
    head += masks + bytes(52)
    return b"BM" + struct.pack("<IHHI", 122 + len(data), 0, 0, 122) + head + data


def tga(samples: NDArray[np.uint8]) -> bytes:
    """Return a TGA of samples (h, w, 4) in the order RGBA."""
    height, width = samples.shape[:2]
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, width, height, 32, 0x20)
    return head + samples[:, :, [2, 1, 0, 3]].tobytes()
