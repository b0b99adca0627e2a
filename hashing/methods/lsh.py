"""Locality-sensitive hashing by Gaussian hyperplanes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hashing.labels import Labels
from hashing.parts.linear import LinearHasher
from hashing.parts.moments import fold, moments
from hashing.validation import check_bool


class LSH(LinearHasher):
    """Bits are the sides of random hyperplanes: sign(A (x - μ)) with a_ij ~ N(0, 1).

    Two descriptors at angle θ, seen from μ, differ in a bit with probability θ / π.

    Parameters
    ----------
    n_bits : int
        Number of hyperplanes.
    center : bool
        Let the hyperplanes pass through the mean μ of the fitted descriptors rather than through
        the origin. Descriptors without negative values, like GIST, lie in one cone, and hyperplanes
        through the origin leave most of them on one side.
    scale : bool
        Divide each dimension by its standard deviation first. Off by default, because it changes
        which neighbours are near.
    random_state : int
        Seed of A.

    References
    ----------
    M. Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002, section 3.
    Deviation: the paper's hyperplanes pass through the origin, as here with `center=False`.
    """

    method: ClassVar[str] = "lsh"
    data_free: ClassVar[bool] = True

    def __init__(
        self, n_bits: int = 64, *, center: bool = True, scale: bool = False, random_state: int = 0
    ) -> None:
        self.n_bits = n_bits
        self.center = center
        self.scale = scale
        self.random_state = random_state

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_bool("center", self.center)
        check_bool("scale", self.scale)

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        A = np.random.default_rng(self.random_state).standard_normal((self.n_bits, X.shape[1]))
        shift, divisor = moments(X, center=self.center, scale=self.scale)
        self._set_linear(*fold(A, shift, divisor), shift)
