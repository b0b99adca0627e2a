"""Labels of items: one each, as integers, or several each, as a matrix with a column per class."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashing.validation import InvalidInput, as_labels, check_complete

Labels = NDArray[np.int64 | np.bool_]
"""(n,) int64, -1 for an item without a label; or (n, c) bool, whether an item has label i."""


def as_targets(y: ArrayLike, n: int) -> Labels:
    """Return labels, one or several per item; raise InvalidInput for anything else.

    Parameters
    ----------
    y : (n,) or (n, c) array_like
        Integers, as for `as_labels`; or 0 and 1, or booleans, in c > 1 columns.
    n : int
        Number of items.
    """
    return as_label_sets(y, n) if _is_matrix(y) else as_labels(y, n)


def as_label_sets(y: ArrayLike, n: int) -> NDArray[np.bool_]:
    """Return labels of which items have several as a bool matrix; InvalidInput for others."""
    check_complete("labels", y)
    expected = f"expected {n} labels, one per descriptor, or a matrix ({n}, c > 1) of 0 and 1"
    if hasattr(y, "toarray"):
        raise InvalidInput(f"{expected}; got a sparse one: pass y.toarray()")
    try:
        matrix = np.asarray(y)
    except (ValueError, OverflowError):
        raise InvalidInput(f"{expected}; got rows of different lengths") from None
    if matrix.ndim != 2 or len(matrix) != n or matrix.shape[1] < 2:
        raise InvalidInput(f"{expected}; got shape {matrix.shape}")
    if matrix.dtype.kind not in "biu":
        raise InvalidInput(f"{expected}; got dtype {matrix.dtype}")
    if matrix.dtype.kind == "b":
        return matrix.astype(np.bool_, copy=False)
    wrong = (matrix != 0) & (matrix != 1)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise InvalidInput(f"{expected}; row {row} has {matrix[row, column]}", row)
    return matrix.astype(np.bool_)


def is_labelled(y: Labels) -> NDArray[np.bool_]:
    """Return which items have a label, (n,)."""
    return np.asarray(y >= 0 if y.ndim == 1 else y.any(axis=1))


def unlabelled_like(y: Labels) -> Labels:
    """Return labels of the same shape, of items that have none."""
    return np.full_like(y, -1 if y.ndim == 1 else False)


def class_sizes(y: Labels) -> dict[int, int]:
    """Return the number of items of each class that has any, in the order of the classes."""
    if y.ndim == 1:
        classes, sizes = np.unique(y[y >= 0], return_counts=True)
    else:
        sizes = np.count_nonzero(y, axis=0)
        classes = np.flatnonzero(sizes)
        sizes = sizes[classes]
    return dict(zip(classes.tolist(), sizes.tolist(), strict=True))


def has_class(y: Labels, label: int) -> NDArray[np.bool_]:
    """Return which items have a label, (n,)."""
    return cast(NDArray[np.bool_], y == label if y.ndim == 1 else y[:, label])


def share_a_label(y: Labels, others: Labels) -> NDArray[np.bool_]:
    """Return which items have a label in common with which others, (n, m)."""
    if y.ndim == 1:
        column = y[:, None]
        return cast(NDArray[np.bool_], (column == others) & (column >= 0))
    # Sums of ones are exact in float32, whose product is much faster than that of integers.
    return np.asarray(y.astype(np.float32) @ others.T.astype(np.float32) > 0)


def check_one_each(y: Labels, who: str) -> None:
    """Raise InvalidInput if items have several labels."""
    if y.ndim != 1:
        raise InvalidInput(f"{who} needs one label per item, but items have several")


def _is_matrix(y: Any) -> bool:
    if isinstance(y, list | tuple):
        return len(y) > 0 and isinstance(y[0], list | tuple | np.ndarray)
    return getattr(y, "ndim", 1) == 2
