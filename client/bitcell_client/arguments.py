"""Checks of arguments: what is not of the expected kind is refused, never converted to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcell_client.results import Accepted, Job

Codes = NDArray[np.uint8] | Sequence[str]
"""Codes, (n, ceil(n_bits / 8)) uint8 as `numpy.packbits(bits, axis=1)` packs them; or in hex."""
AnyJob = str | Accepted | Job
"""A job: its id, what the call that started it returned, or the job as it was."""
_LABELS = "labels must be integers from 0 to 2**63 - 1, or -1 or None for none"
_SEVERAL = "; put several labels as a list into the payload or, for training, into a dataset"


def job_id(job: AnyJob) -> str:
    """Return the id of a job that is given by its id or as an answer."""
    return job.id if isinstance(job, Accepted | Job) else job


def as_list(name: str, values: Iterable[Any], *, ordered: bool = True) -> list[Any]:
    """Return the elements of a list, array or other iterable.

    Strings, bytes and dicts are iterables too, but surely not meant as a list of their parts; nor
    is a set where the order counts.
    """
    refused = (str, bytes, bytearray, memoryview, Mapping, *((set, frozenset) if ordered else ()))
    try:
        if not isinstance(values, refused):
            return list(values)
    except TypeError:
        pass
    raise ValueError(f"{name} must be a list, got {type(values).__name__} {values!r:.50}")


def as_id(value: object, of: str = "this one") -> str:
    """Return an id as the service stores it: a string as it is, an integer in decimal."""
    if not isinstance(value, str) and not is_integer(value):
        raise ValueError(
            f"an id is a string, or an integer, which becomes its digits; {of} is {value!r:.50}"
        )
    return str(value)


def as_ids(ids: Iterable[str | int], *, ordered: bool = True) -> list[str]:
    """Return ids as the service stores them; see `as_id`."""
    values = as_list("ids", ids, ordered=ordered)
    if set(map(type, values)) <= {str}:
        return values
    return [as_id(value, f"that of row {row}") for row, value in enumerate(values)]


def as_id_array(ids: list[str]) -> NDArray[np.str_]:
    """Return ids as an array for npy, which cannot hold NUL at the end of a string."""
    for row, item_id in enumerate(ids):
        if item_id.endswith("\0"):
            raise ValueError(f"an id must not end with NUL; that of row {row} is {item_id!r:.50}")
    return np.array(ids, str)


def check_distinct(ids: list[str]) -> None:
    """Raise ValueError if an id occurs twice."""
    if len(set(ids)) == len(ids):
        return
    rows: dict[str, int] = {}
    for row, item_id in enumerate(ids):
        first = rows.setdefault(item_id, row)
        if first != row:
            raise ValueError(f"ids must be distinct; {item_id!r:.50} is in rows {first} and {row}")


def as_labels(labels: ArrayLike) -> NDArray[np.int64]:
    """Return labels as int64, with -1 for none; ValueError unless they are integers or None."""
    check_complete("labels", labels)
    column = np.asarray(labels) if not isinstance(labels, list | tuple) else labels
    if isinstance(column, np.ndarray) and column.ndim != 1:
        hint = _SEVERAL if column.ndim > 1 else ""
        raise ValueError(f"labels must have shape (n,), got {column.shape}{hint}")
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu":
        wrong = (column < -1) | (column >= 2**63)
        if wrong.any():
            _as_label(column[wrong.argmax()], int(wrong.argmax()))
        return column.astype(np.int64)
    # Not the array, in which a missing value of pandas has made floats of all others.
    column = column if isinstance(labels, np.ndarray) else list(labels)  # type: ignore[arg-type]
    if set(map(type, column)) == {int} and -1 <= min(column) <= max(column) < 2**63:
        return np.array(column, np.int64)
    return np.array([_as_label(label, row) for row, label in enumerate(column)], np.int64)


def _as_label(label: Any, row: int) -> int:
    if label is None:
        return -1
    if not is_integer(label) or not -1 <= label < 2**63:
        hint = _SEVERAL if isinstance(label, list | tuple | set | np.ndarray) else ""
        raise ValueError(f"{_LABELS}; that of row {row} is {label!r:.50}{hint}")
    return int(label)


def as_shaped(descriptors: ArrayLike) -> NDArray[Any]:
    """Return descriptors as a matrix of real numbers of any type; ValueError for anything else."""
    check_complete("descriptors", descriptors)
    X = np.asarray(descriptors)
    if X.dtype.kind not in "fiu":
        raise ValueError(f"descriptors must be real numbers, got {X.dtype}")
    if X.ndim != 2:
        raise ValueError(f"descriptors must have shape (n, d), got {X.shape}")
    return X


def as_matrix(descriptors: ArrayLike) -> NDArray[Any]:
    """Return descriptors as float32 or float64 (n, d); ValueError unless they are real numbers."""
    X = as_shaped(descriptors)
    return X if X.dtype == np.float32 else X.astype(np.float64)


def as_packed(codes: Codes) -> NDArray[np.uint8]:
    """Return codes as an array, (n, size); ValueError for anything but codes of one length."""
    if _is_text(codes):
        texts = as_hex(codes)
        if len(set(map(len, texts))) > 1:
            raise ValueError("expected codes of one length, got codes in hex of several lengths")
        try:
            data = bytes.fromhex("".join(texts))
        except ValueError:
            raise ValueError("expected codes in hex, two digits for each byte") from None
        if not texts or 2 * len(data) != sum(map(len, texts)):
            raise ValueError("expected codes in hex, without spaces, and at least one of them")
        return np.frombuffer(data, np.uint8).reshape(len(texts), -1)
    check_complete("codes", codes)
    array: NDArray[Any] = np.asarray(codes)
    if array.dtype != np.uint8 or array.ndim != 2:
        raise ValueError(
            "expected codes as uint8 of shape (n, ceil(n_bits / 8)), as numpy.packbits(bits, "
            f"axis=1) returns them, or as strings in hex; got {array.dtype} of shape {array.shape}"
        )
    return array


def descriptors_or_codes(
    descriptors: ArrayLike | None, codes: Codes | None
) -> tuple[str, NDArray[Any]]:
    """Return "descriptor" or "code", and the matrix that is given; ValueError unless one is."""
    if descriptors is not None and codes is None:
        return "descriptor", as_shaped(descriptors)
    if codes is not None and descriptors is None:
        return "code", as_packed(codes)
    raise ValueError("expected either descriptors or codes")


def as_hex(codes: Codes) -> list[str]:
    """Return codes in hex; the service checks those that are so already."""
    if _is_text(codes):
        return [str(code) for code in codes]
    packed = as_packed(codes)
    text, width = packed.tobytes().hex(), 2 * packed.shape[1]
    return [text[start : start + width] for start in range(0, len(text), width)]


def _is_text(codes: Codes) -> bool:
    """Return whether codes are strings; ValueError for a single string."""
    if isinstance(codes, str | bytes):
        raise ValueError(f"expected a list of codes, got {codes!r:.80}")
    if isinstance(codes, np.ndarray):
        return bool(codes.dtype.kind == "U")
    return len(codes) > 0 and {type(code) for code in codes} <= {str, np.str_}


def check_complete(name: str, values: Any) -> None:
    """Raise ValueError where numpy would drop a part of the values: their mask or their unit."""
    # A unit is a property of the type: a table may have a column of that name.
    if hasattr(type(values), "units") or hasattr(type(values), "unit"):
        raise ValueError(f"{name} must be plain numbers, got {type(values).__name__} with a unit")
    if values is np.ma.masked:
        raise ValueError(f"{name} must be complete; it is masked")
    # Reading a list, numpy drops the masks of its rows too.
    has_rows = isinstance(values, list | tuple) or np.ma.is_masked(values)
    for row, value in enumerate(values if has_rows else ()):
        if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
            raise ValueError(f"{name} must be complete; a value in row {row} is masked")


def is_integer(value: object) -> TypeGuard[int | np.integer[Any]]:
    """Return whether a value is an integer: neither a bool nor a time in whole seconds."""
    # To Python a bool is an int, and to numpy a timedelta64 is an integer.
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def as_integer(name: str, value: Any) -> Any:
    """Return an integer of Python; None stays None, and anything else is a ValueError."""
    if value is None:
        return None
    if not is_integer(value):
        raise ValueError(f"{name} must be an integer, got {value!r:.50}")
    return int(value)


def as_integers(name: str, values: Iterable[Any]) -> list[int]:
    """Return a list of integers of Python; see `as_list` and `as_integer`."""
    return [as_integer(f"{name}[{i}]", value) for i, value in enumerate(as_list(name, values))]


def as_number(name: str, value: Any) -> Any:
    """Return a finite number of Python; None stays None, and anything else is a ValueError."""
    if value is None:
        return None
    if not is_integer(value):
        if not isinstance(value, float | np.floating) or not np.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r:.50}")
        return float(value)
    return int(value)


def as_text(name: str, value: object) -> str:
    """Return a string; ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string, got {value!r:.50}")
    return str(value)


def as_bool(name: str, value: object) -> bool:
    """Return a boolean of Python; ValueError for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r:.50}")
    return bool(value)


def as_bytes(name: str, value: object) -> bytes:
    """Return the bytes of a file; ValueError for anything else, such as its path."""
    if not isinstance(value, bytes | bytearray | memoryview):
        kind = type(value).__name__
        raise ValueError(f"{name} must be the bytes of a file, got {kind} {value!r:.50}")
    return bytes(value)


def as_object(name: str, value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a dict for a JSON object; None stays None, and anything else is a ValueError."""
    return None if value is None else as_given_object(name, value)


def as_given_object(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict for a JSON object; ValueError for anything else, None included."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a dict, got {type(value).__name__} {value!r:.50}")
    return dict(value)


def check_lengths(
    X: Sized,
    ids: Sized,
    labels: Sized | None,
    payloads: Sized | None,
    what: str = "descriptor",
) -> None:
    """Raise ValueError unless there is one id, and one label and payload if any, per descriptor.

    `what` names in messages what X has instead of descriptors.
    """
    given = {"ids": ids, "labels": labels, "payloads": payloads}
    lengths = {name: len(values) for name, values in given.items() if values is not None}
    if set(lengths.values()) != {len(X)}:
        counts = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"expected one of each per {what}: {len(X)} {what}s, {counts}")
