"""Checks of input: parameters, descriptors, labels."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashing.arrays import row_blocks

LARGEST_FITTED = 1e15
"""Largest absolute value that `fit` accepts: sums of squares then stay within float32."""
_LONGEST_NAME = 80


class InvalidInput(ValueError):
    """Descriptors, labels or parameters cannot be used; the message says why.

    Attributes
    ----------
    row : int or None
        The row of the descriptor or label that is the reason.
    """

    def __init__(self, message: str = "", row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


def suggestion(
    name: str, known: Iterable[str], elsewhere: Mapping[str, Collection[str]] | None = None
) -> str:
    """Return " (did you mean …?)" for a name that is not known; nothing if no known one is near.

    `elsewhere` says what else known names are called.
    """
    # Not needed to hash: `import hashing` stays quick.
    from difflib import get_close_matches

    known, plain = list(known), name[:_LONGEST_NAME].lower()
    near = [one for one in known if elsewhere and plain in elsewhere.get(one, ())]
    near = near or get_close_matches(plain, known, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def is_integer(value: object) -> TypeGuard[int | np.integer]:
    """Return whether a value is an integer: neither a bool nor a time in whole seconds."""
    # To Python a bool is an int, and to numpy a timedelta64 is an integer.
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def check_int(name: str, value: object, low: int, high: int) -> None:
    """Raise InvalidInput unless `value` is an integer, not a bool, from `low` to `high`."""
    if not is_integer(value):
        raise InvalidInput(f"{name} must be an integer, got {value!r:.80}")
    if not low <= value <= high:
        raise InvalidInput(f"{name} must be from {low} to {high}, got {value}")


def check_number(name: str, value: object) -> None:
    """Raise InvalidInput unless `value` is a finite real number."""
    if isinstance(value, bool | np.timedelta64) or not isinstance(
        value, int | float | np.integer | np.floating
    ):
        raise InvalidInput(f"{name} must be a number, got {value!r:.80}")
    try:
        is_finite = math.isfinite(value)
    except OverflowError:
        is_finite = False
    if not is_finite:
        raise InvalidInput(f"{name} must be finite in float64, got {value!r:.50}")


def check_bool(name: str, value: object) -> None:
    """Raise InvalidInput unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidInput(f"{name} must be true or false, got {value!r:.80}")


def check_complete(name: str, values: Any) -> None:
    """Raise InvalidInput where numpy would drop a part of the values: their mask or their unit."""
    # A unit is a property of the type: a table may have a column of that name.
    if hasattr(type(values), "units") or hasattr(type(values), "unit"):
        raise InvalidInput(f"{name} must be plain numbers, got {type(values).__name__} with a unit")
    # Reading a list, numpy drops the masks of its rows too.
    has_rows = isinstance(values, list | tuple) or np.ma.is_masked(values)
    for row, value in enumerate(values if has_rows else ()):
        if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
            raise InvalidInput(f"{name} must be complete; a value in row {row} is masked", row)


def as_descriptors(
    X: ArrayLike, n_features: int | None = None, what: str = "descriptors"
) -> NDArray[Any]:
    """Return `X` as a real matrix (n, d), without a copy if it is one.

    The values are not checked.

    Raises
    ------
    InvalidInput
        `X` is not two-dimensional or not numeric, has no columns, or not `n_features` of them.
    """
    if hasattr(X, "toarray"):
        raise InvalidInput("sparse input is not supported: pass X.toarray(), a dense matrix")
    check_complete(what, X)
    try:
        X = np.asarray(X)
    except (ValueError, OverflowError):
        raise InvalidInput(_not_a_matrix(X, what)) from None
    if X.dtype.kind not in "fiu":
        raise InvalidInput(f"{what} must be real numbers, got dtype {X.dtype}")
    if X.ndim != 2 or X.shape[1] == 0:
        raise InvalidInput(f"{what} must have shape (n, d) with d > 0, got {X.shape}")
    if n_features is not None and X.shape[1] != n_features:
        raise InvalidInput(f"expected descriptors of dimension {n_features}, got {X.shape[1]}")
    return X


def _not_a_matrix(X: Any, what: str) -> str:
    message = f"{what} must be a matrix of numbers, all rows of one length"
    if isinstance(X, list | tuple) and all(isinstance(row, list | tuple) for row in X):
        for i, row in enumerate(X):
            if len(row) != len(X[0]):
                return f"{message}: row 0 has {len(X[0])} numbers, row {i} has {len(row)}"
    return message


def check_finite(X: NDArray[Any], limit: float = float(np.finfo(np.float32).max)) -> None:
    """Raise InvalidInput for the first value that is NaN, infinite, or larger than `limit`."""
    for rows in row_blocks(X):
        block = X[rows]
        # Compared with float16, a Python number would become a float16.
        wrong = ~(np.abs(block) <= np.float32(limit))
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise InvalidInput(
                f"descriptors must be finite and at most {limit:.3g} in size: "
                f"row {rows.start + row}, column {column} is {block[row, column]}",
                rows.start + row,
            )


def as_labels(y: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return `y` as int64 (n,), with -1 for unlabelled; raise InvalidInput for anything else.

    Python's and numpy's integers are labels. Nothing else is converted to one: neither floats,
    booleans and strings nor dates and masked values.
    """
    check_complete("labels", y)
    # Not a list: numpy would turn its booleans into numbers.
    column: Any = y if isinstance(y, list | tuple) else np.asarray(y)
    shape = column.shape if isinstance(column, np.ndarray) else (len(column),)
    if shape != (n,):
        raise InvalidInput(f"expected {n} labels, one per descriptor, got shape {shape}")
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu":
        wrong = (column < -1) | (column >= 2**63)
        if not wrong.any():
            return column.astype(np.int64)
        column = {int(wrong.argmax()): column[wrong.argmax()]}
    else:
        # Not the array, in which a missing value of pandas has made floats of all others.
        column = list(column if isinstance(y, np.ndarray) else y)  # type: ignore[arg-type]
        if set(map(type, column)) == {int} and -1 <= min(column) <= max(column) < 2**63:
            return np.array(column, np.int64)
        column = dict(enumerate(column))
    for row, label in column.items():
        if not is_integer(label) or not -1 <= label < 2**63:
            raise InvalidInput(
                "labels must be integers from 0 to 2**63 - 1, or -1 for unlabelled; that of row "
                f"{row} is {label!r:.50}",
                row,
            )
    return np.array(list(column.values()), np.int64)


def as_privileged(privileged: ArrayLike, n: int) -> NDArray[Any]:
    """Return privileged features as a real matrix (n, p) in which unknown rows are all NaN.

    Raises
    ------
    InvalidInput
        They are not a matrix with one row per descriptor, a value is too large or infinite, or a
        row is NaN in some columns only.
    """
    F = as_descriptors(privileged, what="privileged features")
    if len(F) != n:
        raise InvalidInput(
            f"expected {n} rows of privileged features, one per descriptor, got {len(F)}"
        )
    for rows in row_blocks(F):
        block = F[rows]
        unknown = np.isnan(block)
        wrong = unknown.any(axis=1) & ~unknown.all(axis=1)
        if wrong.any():
            raise InvalidInput(
                f"row {rows.start + int(wrong.argmax())} of the privileged features is NaN in some "
                "columns only: a row is either complete or, if it is unknown, all NaN"
            )
        wrong = ~unknown & ~(np.abs(block) <= np.float32(LARGEST_FITTED))
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise InvalidInput(
                f"privileged features must be at most {LARGEST_FITTED:.3g} in size, or NaN: row "
                f"{rows.start + row}, column {column} is {block[row, column]}"
            )
    return F


def check_permutation(name: str, columns: object, limit: int) -> None:
    """Raise InvalidInput unless `columns` is None or a list that names each of its places once."""
    if columns is None:
        return
    if not isinstance(columns, list | tuple) or len(columns) > limit:
        raise InvalidInput(f"{name} must be a list of dimensions, got {columns!r:.50}")
    for dimension in columns:
        check_int(f"each entry of {name}", dimension, 0, len(columns) - 1)
    if len(set(columns)) < len(columns):
        raise InvalidInput(f"{name} must name each dimension once, but one stands in it twice")
