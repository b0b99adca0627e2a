"""Read and write `.npy` bodies; what clients send is not trusted.

Numpy's own reader parses the header, of at most `MAX_HEADER` bytes. An array is then a view of
the body, after its dtype and its size have been checked, so nothing is unpickled and no memory is
reserved for a shape that the body does not hold.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from app.datasets.vectors import BAD_HEADER
from hashing.validation import InvalidInput

MEDIA_TYPE = "application/x-npy"
DESCRIPTORS = {"descriptors": "fiu"}
CODES = {"codes": "u"}
OF_ITEMS = {"ids": "Uiu", "labels": "iu"}
"""What follows the descriptors or codes of items."""
OF_TRAINING = DESCRIPTORS | {"labels": "iu"}
MAX_HEADER = 1024
MAX_DIMENSIONS = 8
MAX_BYTES = 1 << 48
# dtype kinds that an array may be made of: numbers, booleans and strings.
_PLAIN_KINDS = "biufcU"
_KIND_NAMES = {"fiu": "numbers", "u": "uint8", "Uiu": "strings or integers", "iu": "integers"}
_MAGIC = npy_format.MAGIC_PREFIX
# By version: the size of the field with the header's length, and numpy's reader.
_VERSIONS: dict[bytes, tuple[int, Any]] = {
    b"\x01\x00": (2, npy_format.read_array_header_1_0),
    b"\x02\x00": (4, npy_format.read_array_header_2_0),
}
# Clients send the same shapes again and again, and parsing a header takes 0.03 ms.
_CACHED_HEADERS = 64


class BadNpy(ValueError):
    """The body is not one or several `.npy` arrays of the expected kinds."""


def read_arrays(data: bytes, expected: Mapping[str, str], required: int = 1) -> list[NDArray[Any]]:
    """Read arrays that `numpy.save` wrote one after the other, without copying them.

    Parameters
    ----------
    data : bytes
    expected : mapping of str to str
        For each array in order, its name for messages and the letters of the dtype kinds it may
        have, as in `dtype.kind`.
    required : int
        How many of the arrays must be present.

    Returns
    -------
    list of arrays
        Read-only views of `data`.

    Raises
    ------
    BadNpy
        An array is missing or has another dtype, a header does not fit its data, or bytes follow
        the last array.
    """
    arrays: list[NDArray[Any]] = []
    start = 0
    for name, kinds in expected.items():
        if start == len(data):
            if len(arrays) < required:
                raise BadNpy(f"the {name} are missing: expected npy of {_KIND_NAMES[kinds]}")
            break
        array, start = _read_array(data, start, name)
        if array.dtype.kind not in kinds:
            raise BadNpy(f"the {name} must be npy of {_KIND_NAMES[kinds]}, got dtype {array.dtype}")
        arrays.append(array)
    if start < len(data):
        raise BadNpy(f"{len(data) - start} bytes are left over after {', '.join(expected)}")
    return arrays


def _read_array(data: bytes, start: int, name: str) -> tuple[NDArray[Any], int]:
    """Return the array that starts at `start`, and the position after its end."""
    magic_end = start + npy_format.MAGIC_LEN
    length_size, _ = _VERSIONS.get(data[magic_end - 2 : magic_end], (0, None))
    if not data.startswith(_MAGIC, start) or not length_size:
        raise BadNpy(f"the npy of {name} cannot be read: expected numpy's format 1.0 or 2.0")
    header_start = magic_end + length_size
    header_size = int.from_bytes(data[magic_end:header_start], "little")
    values_start = header_start + header_size
    if not 0 < header_size <= MAX_HEADER or values_start > len(data):
        raise BadNpy(f"the npy of {name} cannot be read: its header has {header_size} bytes")
    dtype, fortran, shape = _parse_header(data[start:values_start], name)
    count = math.prod(shape)
    end = values_start + count * dtype.itemsize
    if end > len(data):
        raise BadNpy(
            f"the npy of {name} says it is {dtype} of shape {shape!s:.80}, which takes "
            f"{float(end - values_start):.3g} bytes; there are {len(data) - values_start}"
        )
    flat = np.frombuffer(data, dtype, count, values_start)
    return flat.reshape(shape, order="F" if fortran else "C"), end


@lru_cache(_CACHED_HEADERS)
def _parse_header(head: bytes, name: str) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Return dtype, Fortran order and shape of the bytes from the magic to the header's end."""
    file = io.BytesIO(head)
    try:
        version = npy_format.read_magic(file)
        _, read_header = _VERSIONS[bytes(version)]
        shape, fortran, dtype = read_header(file, max_header_size=MAX_HEADER)
    except BAD_HEADER as error:
        reason = str(error) or type(error).__name__
        raise BadNpy(f"the npy of {name} cannot be read: {reason:.200}") from None
    if dtype.hasobject:
        raise BadNpy(f"the npy of {name} holds pickled objects; only plain numbers are read")
    if dtype.kind not in _PLAIN_KINDS or dtype.itemsize == 0:
        raise BadNpy(f"the npy of {name} has dtype {dtype!s:.80}, which is not read here")
    lengths_are_plain = all(type(length) is int and length >= 0 for length in shape)
    # Zero lengths are left out of the product: numpy multiplies the others all the same.
    if (
        not lengths_are_plain
        or len(shape) > MAX_DIMENSIONS
        or math.prod(length for length in shape if length) * dtype.itemsize >= MAX_BYTES
    ):
        raise BadNpy(f"the npy of {name} has an impossible shape: {shape!s:.80}")
    return dtype, fortran, shape


def not_empty(matrix: NDArray[Any], name: str = "descriptors") -> NDArray[Any]:
    """Return the matrix; raise InvalidInput if it has no rows or is not two-dimensional."""
    if matrix.ndim != 2 or len(matrix) == 0:
        raise InvalidInput(f"{name} must have shape (n, d) with n and d > 0, got {matrix.shape}")
    return matrix


def strings(array: NDArray[Any]) -> list[str]:
    """Return ids, an (n,) array of strings or integers, as strings."""
    if array.ndim != 1:
        raise InvalidInput(f"ids must have shape (n,), got {array.shape}")
    if array.dtype.kind != "U":
        return list(map(str, array.tolist()))
    # Checked here, because numpy raises SystemError on numbers that are no code points.
    code_points = array.view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    largest = int(code_points.max(initial=0))
    if largest > sys.maxunicode:
        raise BadNpy(f"an id is not Unicode: it holds {largest:#x}, which is no code point")
    texts: list[str] = array.tolist()
    return texts


def write_array(array: NDArray[Any]) -> bytes:
    """Return an array as the bytes of an `.npy` file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
