"""PCA hashing: the signs of the leading principal components."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hashing.labels import Labels
from hashing.parts.blas import one_blas_thread
from hashing.parts.linear import LinearHasher
from hashing.parts.moments import fold
from hashing.parts.principal import principal_directions
from hashing.validation import InvalidInput


class PCAH(LinearHasher):
    """Bits are sign(Wᵀ (x - μ)), with W the leading principal directions.

    A cheap baseline. The leading components hold most of the variance, but every component gets
    one bit, so that longer codes rank by directions of ever less variance: `itq` rotates the
    components to share the variance out.

    Parameters
    ----------
    n_bits : int
        Code length, at most the number of directions in which the descriptors vary.
    random_state : int
        No effect: nothing is drawn.

    Raises
    ------
    InvalidInput
        By `fit`: the descriptors vary in fewer directions than there are bits.

    References
    ----------
    X.-J. Wang, L. Zhang, F. Jing, W.-Y. Ma, "AnnoSearch: Image Auto-Annotation by Search", CVPR
    2006. Y. Gong, S. Lazebnik, "Iterative Quantization", CVPR 2011, compare with it as
    "PCA-Direct".
    """

    method: ClassVar[str] = "pcah"

    def __init__(self, n_bits: int = 64, *, random_state: int = 0) -> None:
        self.n_bits = n_bits
        self.random_state = random_state

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        with one_blas_thread():
            mean, W = principal_directions(X, self.n_bits)
        if W.shape[1] < self.n_bits:
            raise InvalidInput(
                f"pcah makes one bit of each direction in which the descriptors vary: at most "
                f"{W.shape[1]}, got n_bits {self.n_bits}"
            )
        self._set_linear(*fold(W.T, mean, np.ones(len(mean))), mean)
