"""Matrices in and out as `.npy`, read as data from strangers.

The header is parsed, never run, and its shape is believed only as far as the bytes behind it go.
"""

from __future__ import annotations

import ast
import io
import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.base import as_labels

MEDIA_TYPE = "application/x-npy"
NUMBERS = "fiu"
"""Kinds of dtype that descriptors may have."""
_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 1024
# Numbers, booleans and strings, with a size.
_PLAIN = re.compile(r"[<>|=]?[biufcU][1-9][0-9]{0,4}")


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
    """The array that starts at `start`, and where the next one does."""
    version = data[start + 6 : start + 8]
    width = {b"\x01\x00": 2, b"\x02\x00": 4}.get(version)
    if data[start : start + 6] != _MAGIC or width is None:
        raise BadNpy(f"npy array {place} cannot be read: expected numpy's format 1.0 or 2.0")
    head = start + 8 + width
    begin = head + int.from_bytes(data[start + 8 : head], "little")
    if not head < begin <= min(len(data), head + _MAX_HEADER):
        raise BadNpy(f"npy array {place} cannot be read: its header has {begin - head} bytes")
    dtype, fortran, shape = _parse(data[head:begin], place)
    count = math.prod(shape)
    end = begin + count * dtype.itemsize
    if end > len(data):
        raise BadNpy(
            f"npy array {place} says it is {dtype} of shape {shape!s:.80}, which takes "
            f"{float(end - begin):.3g} bytes; there are {len(data) - begin}"
        )
    flat = np.frombuffer(data, dtype, count, begin)
    return flat.reshape(shape, order="F" if fortran else "C"), end


def _parse(header: bytes, place: int) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    try:
        fields = ast.literal_eval(header.decode("latin-1").strip())
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise BadNpy(f"npy array {place} cannot be read: its header is no literal") from None
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise BadNpy(f"npy array {place} cannot be read: its header lacks the three fields of npy")
    descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if descr in ("O", "|O"):
        raise BadNpy(f"npy array {place} holds pickled objects; only plain numbers are read")
    if not isinstance(descr, str) or not _PLAIN.fullmatch(descr):
        raise BadNpy(f"npy array {place} has a dtype that is not read here: {descr!s:.80}")
    if not isinstance(fortran, bool) or not isinstance(shape, tuple):
        raise BadNpy(f"npy array {place} cannot be read: its header is of other types than npy's")
    if len(shape) > 8 or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
        raise BadNpy(f"npy array {place} has an impossible shape: {shape!s:.80}")
    try:
        dtype = np.dtype(descr)
    except TypeError:
        raise BadNpy(f"npy array {place} has a dtype that is not read here: {descr}") from None
    return dtype, fortran, shape


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
