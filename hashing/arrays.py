"""Array types, and the check that float32 did not overflow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32] | NDArray[np.float64]
Float64Array = NDArray[np.float64]


class NotFinite(Exception):
    """A projection would hide a NaN or an infinity; `Hasher` turns this into InvalidInput."""


def finite(z: Matrix) -> Matrix:
    """Return `z`; raise NotFinite if it holds NaN or infinity."""
    # The sum of squares settles most cases in one pass. It may overflow although `z` is finite,
    # so a second pass decides.
    if not np.isfinite(np.vdot(z, z)) and not np.isfinite(z).all():
        raise NotFinite
    return z
