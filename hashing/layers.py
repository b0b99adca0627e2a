"""What nets are made of at the time of encoding, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hashing.base import Matrix, NotFinite


def affine(X: Matrix, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> Matrix:
    """X·weights + bias in the dtype of X: (n, d), (d, m) and (m,) to a fresh (n, m)."""
    v: Matrix = X @ weights
    v += bias
    return v


def finite(v: Matrix) -> Matrix:
    """`v` itself; NotFinite where a bounded activation would hide that it is not finite."""
    if not np.isfinite(np.vdot(v, v)):
        raise NotFinite
    return v
