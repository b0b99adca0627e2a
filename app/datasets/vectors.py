"""Descriptors in `.npy` files, and in `.fvecs`, `.bvecs` and `.ivecs` files.

The files are mapped into memory, so that a size in a header reserves nothing.
"""

from __future__ import annotations

import math
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from app.datasets.dataset import BadDataset, Dataset, unlabelled

NPY = b"\x93NUMPY"
MAX_DIMENSION = 1 << 20
_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}
BAD_HEADER = (
    ValueError,
    TypeError,
    SyntaxError,
    LookupError,
    TokenError,
    OverflowError,
    RecursionError,
    MemoryError,
)
"""What numpy raises on npy headers that are damaged or hostile."""

VALUES_BY_NAME = (".fvecs", ".ivecs")
"""Ends of names that say what the values are, which the content does not say for certain."""
# Records of a dimension and as many values. In this order: fvecs and ivecs differ in values only.
_LAYOUTS = ("<f4", "u1")
# Float32 descriptors rarely have an exponent of two above _EXTREME or below -_EXTREME. A file holds
# integers if more than _SHARE_OF_HUGE of its words are above, or more than _SHARE_OF_EXTREME are
# above or below. The second share is larger because many probabilities are tiny. The test looks at
# about _SAMPLE records.
_EXTREME = 64
_SHARE_OF_HUGE = 1 / 8
_SHARE_OF_EXTREME = 0.9
_SAMPLE = 4096


def check_npy(file: IO[bytes], size: int) -> None:
    """Read the header of an npy array; BadDataset unless the file holds all its values."""
    try:
        shape, _, dtype = _HEADERS[npy_format.read_magic(file)](file)
        left = size - file.tell()
    except BAD_HEADER as error:
        raise BadDataset(f"the npy header cannot be read: {error!s:.200}") from None
    if dtype.hasobject:
        raise BadDataset(
            "the array holds Python objects, which are not unpickled; save it with a dtype of its "
            "own, strings for instance with .astype(str)"
        )
    # In Python's integers: numpy's product of hostile lengths overflows.
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > left:
        raise BadDataset(
            f"the npy header says that the array is {dtype} of shape {shape!s:.80}; {left} bytes "
            "are stored for it"
        )


def map_npy(path: Path) -> NDArray[Any]:
    """Return the array of an `.npy` file, mapped; BadDataset if it holds no plain values."""
    try:
        with path.open("rb") as file:
            check_npy(file, path.stat().st_size)
        return npy_format.open_memmap(path, mode="r")
    except ValueError as error:
        raise BadDataset(f"{path}: {error!s:.400}") from None


def read_npy(path: Path, name: str) -> Dataset:
    """Return the matrix of an `.npy` file as a dataset; BadDataset if it holds none."""
    return unlabelled(name, map_npy(path))


def records_of(path: Path) -> NDArray[Any] | None:
    """Return the records of an fvecs, bvecs or ivecs file, mapped; None if it is none of these.

    Every record has the same dimension `d`, and that many values. The layout of fvecs and ivecs is
    the same.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        d = int.from_bytes(file.read(4), "little", signed=True)
    if not 0 < d <= MAX_DIMENSION:
        return None
    for values in _LAYOUTS:
        record = np.dtype([("d", "<i4"), ("values", values, (d,))])
        if size % record.itemsize == 0:
            records = np.memmap(path, record, "r")
            if (records["d"] == d).all():
                return records
    return None


def from_records(records: NDArray[Any], path: Path, name: str) -> Dataset:
    """Return the values of records as a dataset."""
    return unlabelled(name, values_of(records, path, name))


def values_of(records: NDArray[Any], path: Path, name: str) -> NDArray[Any]:
    """Return the values of records, (n, d).

    The values of fvecs and ivecs are told apart by how the name of the file or of the dataset ends.
    If neither says so, the values decide.
    """
    values: NDArray[Any] = records["values"]
    if values.dtype == np.float32:
        said = [end for end in (path.suffix, Path(name).suffix) if end in VALUES_BY_NAME]
        if said[0] == ".ivecs" if said else _are_integers(values):
            values = values.view("<i4")
    return values


def _are_integers(values: NDArray[np.float32]) -> bool:
    """Return whether many values that are not zero are, as float32, beyond all descriptors.

    Integers below 2²⁹ are next to nothing as float32, negative ones above -2²⁹ are huge or not
    numbers, and of integers from the whole range a quarter are huge or not numbers.
    """
    some = np.ascontiguousarray(values[:: max(1, len(values) // _SAMPLE)])
    bits = some.view("<u4") & np.uint32((1 << 31) - 1)
    exponents = (bits[bits > 0] >> 23).astype(np.int64) - 127
    if not len(exponents):
        return False
    huge = (exponents > _EXTREME).mean()
    extreme = (np.abs(exponents) > _EXTREME).mean()
    return bool(huge > _SHARE_OF_HUGE or extreme > _SHARE_OF_EXTREME)
