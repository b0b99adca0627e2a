"""Checks of input: parameters, descriptors, labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashing.arrays import row_blocks

LARGEST_FITTED = 1e15
"""Largest absolute value that `fit` accepts: sums of squares then stay within float32."""


class InvalidInput(ValueError):
    """Descriptors, labels or parameters cannot be used; the message says why."""


def check_int(name: str, value: object, low: int, high: int) -> None:
    """Raise InvalidInput unless `value` is an integer, not a bool, from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InvalidInput(f"{name} must be an integer, got {value!r:.80}")
    if not low <= value <= high:
        raise InvalidInput(f"{name} must be from {low} to {high}, got {value}")


def check_number(name: str, value: object) -> None:
    """Raise InvalidInput unless `value` is a finite real number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
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
                f"row {rows.start + row}, column {column} is {block[row, column]}"
            )


def as_labels(y: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return `y` as int64 (n,), with -1 for unlabelled; raise InvalidInput for anything else."""
    try:
        labels = np.asarray(y)
    except ValueError:
        raise InvalidInput(f"expected {n} labels, one per descriptor, got nested lists") from None
    if labels.shape != (n,):
        raise InvalidInput(f"expected {n} labels, one per descriptor, got shape {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise InvalidInput(f"labels must be integers, got dtype {labels.dtype}")
    if n and labels.min() < -1:
        raise InvalidInput(f"labels must be -1 (unlabelled) or more, got {labels.min()}")
    if labels.dtype.kind == "u" and n and labels.max() > np.iinfo(np.int64).max:
        raise InvalidInput(f"labels must fit in int64, got {labels.max()}")
    return labels.astype(np.int64)


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
