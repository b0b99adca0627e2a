"""Matrices in and out as `.npy`, read as data from strangers.

The header is parsed, never run, and its shape is believed only as far as the bytes behind it go.
"""

from __future__ import annotations

import ast
import io
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.validation import InvalidInput

MEDIA_TYPE = "application/x-npy"
# Letters of dtype kinds, and what to call them.
_KINDS = {"fiu": "numbers", "U": "strings", "iu": "integers"}
DESCRIPTORS = {"descriptors": "fiu"}
ITEMS = {"descriptors": "fiu", "ids": "U", "labels": "iu"}
_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 1024
# The same clients send the same shapes again and again, and to parse a header takes 0.03 ms.
_HEADERS = 64
# Numbers, booleans and strings, with a size.
_PLAIN = re.compile(r"[<>|=]?[biufcU][1-9][0-9]{0,4}")


class BadNpy(ValueError):
    """A body that is not one or several `.npy` arrays of the kinds expected."""


def read_arrays(data: bytes, expected: Mapping[str, str], required: int = 1) -> list[NDArray[Any]]:
    """Arrays written one after the other by `numpy.save`, without copying them.

    Parameters
    ----------
    data : bytes
    expected : mapping of str to str
        Of each array in turn the name, for messages, and the letters of the dtype kinds it may
        have, as in `dtype.kind`.
    required : int
        How many of them must be there.

    Raises
    ------
    BadNpy
        No array, one of another kind, a header that does not fit its data, or bytes left over.
    """
    arrays: list[NDArray[Any]] = []
    start = 0
    for name, kinds in expected.items():
        if start == len(data):
            if len(arrays) < required:
                raise BadNpy(f"the {name} are missing: expected npy of {_KINDS[kinds]}")
            break
        array, start = _read(data, start, name)
        if array.dtype.kind not in kinds:
            raise BadNpy(f"the {name} must be npy of {_KINDS[kinds]}, got dtype {array.dtype}")
        arrays.append(array)
    if start < len(data):
        raise BadNpy(f"{len(data) - start} bytes are left over after {', '.join(expected)}")
    return arrays


def _read(data: bytes, start: int, name: str) -> tuple[NDArray[Any], int]:
    """The array that starts at `start`, and where the next one does."""
    version = data[start + 6 : start + 8]
    width = {b"\x01\x00": 2, b"\x02\x00": 4}.get(version)
    if data[start : start + 6] != _MAGIC or width is None:
        raise BadNpy(f"the npy of {name} cannot be read: expected numpy's format 1.0 or 2.0")
    head = start + 8 + width
    begin = head + int.from_bytes(data[start + 8 : head], "little")
    if not head < begin <= min(len(data), head + _MAX_HEADER):
        raise BadNpy(f"the npy of {name} cannot be read: its header has {begin - head} bytes")
    dtype, fortran, shape = _parse(data[head:begin], name)
    count = math.prod(shape)
    end = begin + count * dtype.itemsize
    if end > len(data):
        raise BadNpy(
            f"the npy of {name} says it is {dtype} of shape {shape!s:.80}, which takes "
            f"{float(end - begin):.3g} bytes; there are {len(data) - begin}"
        )
    flat = np.frombuffer(data, dtype, count, begin)
    return flat.reshape(shape, order="F" if fortran else "C"), end


@lru_cache(_HEADERS)
def _parse(header: bytes, name: str) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    try:
        fields = ast.literal_eval(header.decode("latin-1").strip())
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise BadNpy(f"the npy of {name} cannot be read: its header is no literal") from None
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise BadNpy(f"the npy of {name} cannot be read: its header lacks the three fields of npy")
    descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if descr in ("O", "|O"):
        raise BadNpy(f"the npy of {name} holds pickled objects; only plain numbers are read")
    if not isinstance(descr, str) or not _PLAIN.fullmatch(descr):
        raise BadNpy(f"the npy of {name} has a dtype that is not read here: {descr!a:.80}")
    if not isinstance(fortran, bool) or not isinstance(shape, tuple):
        raise BadNpy(f"the npy of {name} cannot be read: its header is of other types than npy's")
    plain = len(shape) <= 8 and all(type(n) is int and n >= 0 for n in shape)
    # A zero among lengths makes no other of them harmless: numpy multiplies the rest.
    if not plain or math.prod(n for n in shape if n) >= 2**48:
        raise BadNpy(f"the npy of {name} has an impossible shape: {shape!s:.80}")
    try:
        dtype = np.dtype(descr)
    except TypeError:
        raise BadNpy(f"the npy of {name} has a dtype that is not read here: {descr}") from None
    return dtype, fortran, shape


def not_empty(matrix: NDArray[Any]) -> NDArray[Any]:
    """The matrix; InvalidInput where it has no rows or is none."""
    if matrix.ndim != 2 or len(matrix) == 0:
        raise InvalidInput(
            f"descriptors must have shape (n, d) with n and d > 0, got {matrix.shape}"
        )
    return matrix


def strings(array: NDArray[Any]) -> list[str]:
    """A (n,) array of strings as a list."""
    if array.ndim != 1:
        raise InvalidInput(f"ids must have shape (n,), got {array.shape}")
    try:
        texts: list[str] = array.tolist()
    except ValueError as error:
        raise BadNpy(f"an id is not Unicode: {error}") from None
    return texts


def write_array(array: NDArray[Any]) -> bytes:
    """An array as the bytes of an `.npy` file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
