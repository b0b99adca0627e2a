"""Small files that unpack to large transparent images."""

from __future__ import annotations

import http.client
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.abuse.siege import LimitedService, Siege
from tests.crafted_images import GREY, GREY_ALPHA, PALETTE, RGB_ALPHA, chunk, transparent

PALETTE_CHUNKS = [chunk(b"PLTE", bytes(768)), chunk(b"tRNS", bytes(range(256)))]
KINDS: list[tuple[int, int, list[bytes]]] = [
    (RGB_ALPHA, 4, []),
    (GREY_ALPHA, 2, []),
    (PALETTE, 1, PALETTE_CHUNKS),
    (GREY, 1, [transparent(7)]),
]


def bomb(side: int, rows: int, colour: int, channels: int, chunks: list[bytes]) -> bytes:
    """Return a square PNG that claims `side` rows but has the pixels of only `rows` of them."""
    row = b"\0" + bytes(range(250)) * (side * channels // 250 + 1)
    pack = zlib.compressobj(9)
    pixels = b"".join(pack.compress(row[: side * channels + 1]) for _ in range(rows)) + pack.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, colour, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", head, *chunks, chunk(b"IDAT", pixels), chunk(b"IEND")])


def describe(service: LimitedService, file: bytes) -> int:
    """Return the status of the answer to an image."""
    address = urlsplit(service.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
    try:
        connection.request("POST", "/v1/gist", file, {"Content-Type": "image/png"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def attack(service: LimitedService, files: list[bytes]) -> list[int]:
    with ThreadPoolExecutor(len(files)) as pool:
        return list(pool.map(lambda file: describe(service, file), files))


def test_transparent_images_of_too_many_pixels_are_refused_unread(service: LimitedService) -> None:
    files = [bomb(60_000, 1, *kind) for kind in KINDS]
    with Siege(service, megabytes=100, seconds=20, patience=5):
        assert set(attack(service, 5 * files)) == {413}


@pytest.mark.slow
def test_the_largest_transparent_images_take_the_memory_of_one(service: LimitedService) -> None:
    files = [bomb(6_300, 6_300, *kind) for kind in KINDS]
    assert max(map(len, files)) < 1 << 20
    with Siege(service, megabytes=450, seconds=120, patience=10):
        assert set(attack(service, 3 * files)) <= {200, 503}
