"""Matrices in and out as `.npy`, read as data from strangers.

The header is parsed, never run, and its shape is believed only as far as the bytes behind it go.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.base import as_labels

MEDIA_TYPE = "application/x-npy"
NUMBERS = "fiu"
"""Kinds of dtype that descriptors may have."""
_MAX_HEADER = 1024


class BadNpy(ValueError):
    """A body that is not one or several `.npy` arrays of the kinds expected."""


def read_arrays(data: bytes, kinds: tuple[str, ...], required: int = 1) -> list[NDArray[Any]]:
    """Arrays written one after the other by `numpy.save`, without copying them.

    Parameters
    ----------
    data : bytes
    kinds : tuple of str
        For each array in turn, the letters of the dtype kinds it may have, as in `dtype.kind`.
    required : int
        How many of them must be there.

    Raises
    ------
    BadNpy
        No array, one of another kind, a header that does not fit its data, or bytes left over.
    """
    arrays: list[NDArray[Any]] = []
    start = 0
    while start < len(data) or len(arrays) < required:
        if len(arrays) == len(kinds):
            raise BadNpy(f"{len(data) - start} bytes are left over after {len(arrays)} npy arrays")
        array, start = _read(data, start, len(arrays) + 1)
        if array.dtype.kind not in kinds[len(arrays)]:
            raise BadNpy(
                f"npy array {len(arrays) + 1} must be of kind {' or '.join(kinds[len(arrays)])}, "
                f"got dtype {array.dtype}"
            )
        arrays.append(array)
    return arrays


def _read(data: bytes, start: int, place: int) -> tuple[NDArray[Any], int]:
    # numpy's reader of headers takes a file; a copy of the part that can hold one is enough.
    file = io.BytesIO(data[start : start + _MAX_HEADER + 16])
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file, max_header_size=_MAX_HEADER)
    except KeyError:
        raise BadNpy(f"npy array {place} is of an unknown format version") from None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise BadNpy(f"npy array {place} cannot be read: {reason}") from None
    if dtype.hasobject:
        raise BadNpy(f"npy array {place} holds pickled objects; only plain numbers are read")
    if any(length < 0 for length in shape):
        raise BadNpy(f"npy array {place} has a negative shape: {shape}")
    count = math.prod(shape)
    begin = start + file.tell()
    end = begin + count * dtype.itemsize
    if end > len(data) or dtype.itemsize == 0:
        raise BadNpy(
            f"npy array {place} says it is {dtype} of shape {shape}, {end - begin} bytes; "
            f"there are {len(data) - begin}"
        )
    flat = np.frombuffer(data, dtype, count, begin)
    return flat.reshape(shape, order="F" if fortran else "C"), end


def not_empty(matrix: NDArray[Any]) -> NDArray[Any]:
    """The matrix; BadNpy where it has no rows."""
    if matrix.ndim != 2 or len(matrix) == 0:
        raise BadNpy(f"expected npy of shape (n, d) with n > 0, got {matrix.shape}")
    return matrix


def strings(array: NDArray[Any]) -> list[str]:
    """A (n,) array of strings as a list."""
    if array.ndim != 1:
        raise BadNpy(f"expected npy of strings of shape (n,), got {array.shape}")
    try:
        texts: list[str] = array.tolist()
    except ValueError as error:
        raise BadNpy(f"an npy string is not Unicode: {error}") from None
    return texts


def labels(array: NDArray[Any]) -> NDArray[np.int64]:
    """A (n,) array of integers as labels."""
    return as_labels(array, array.size)


def write_array(array: NDArray[Any]) -> bytes:
    """An array as the bytes of an `.npy` file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
