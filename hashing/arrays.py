"""Array types, blocks of rows, and the check that float32 did not overflow."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32] | NDArray[np.float64]
Float64Array = NDArray[np.float64]

BLOCK = 4096
"""Rows per step: enough for a fast matrix product, few enough that the step stays in the cache."""


def row_blocks(X: Sized, n_rows: int = BLOCK) -> Iterator[slice]:
    """Return the slices that divide the rows of X into blocks of `n_rows`."""
    return (slice(start, start + n_rows) for start in range(0, len(X), n_rows))


class NotFinite(Exception):
    """A projection would hide a NaN or an infinity; `Hasher` turns this into InvalidInput."""


def finite(z: Matrix) -> Matrix:
    """Return `z`; raise NotFinite if it holds NaN or infinity."""
    # The sum of squares settles most cases in one pass. It may overflow although `z` is finite,
    # so a second pass decides.
    if not np.isfinite(np.vdot(z, z)) and not np.isfinite(z).all():
        raise NotFinite
    return z
