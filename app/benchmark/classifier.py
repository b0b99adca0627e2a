"""The trivial code of a classifier, with which supervised hashing must be compared."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from bitcodes import Codes, pack
from hashing.arrays import Float64Array, Matrix, row_blocks
from hashing.labels import Labels, check_one_each
from hashing.parts.anchors import rbf, squared_distances
from hashing.parts.pairs import labelled

MAX_SUPPORT = 3000
"""Most labelled descriptors to learn from; of more, as many are drawn."""
RIDGE = 0.5


class OneHotClassifier:
    """A code of one bit per class, set for the class that kernel ridge regression predicts.

    Items of the predicted class are at distance 0 and all others at distance 2. A. Sablayrolles,
    M. Douze, N. Usunier, H. Jégou, "How should we evaluate supervised hashing?", ICASSP 2017
    (arXiv:1609.06753), show that such a code beats supervised hashing where all classes are known,
    and knows nothing of other classes.

    Parameters
    ----------
    random_state : int
        Seed of the draw, if there are more than MAX_SUPPORT labels.
    """

    def __init__(self, random_state: int) -> None:
        self._random_state = random_state

    def fit(self, X: Matrix, y: Labels) -> Self:
        """Learn from one label per item; InvalidInput with fewer than two classes."""
        from scipy.linalg import cho_factor, cho_solve

        check_one_each(y, "classifier")
        rows = labelled(y)
        rng = np.random.default_rng(self._random_state)
        if len(rows) > MAX_SUPPORT:
            rows = np.sort(rng.choice(rows, MAX_SUPPORT, replace=False))
        self._support = X[rows].astype(np.float32)
        self._classes, targets = np.unique(y[rows], return_inverse=True)
        one_hot = np.eye(len(self._classes))[targets]
        distances = squared_distances(self._support.astype(np.float64), self._support)
        # rbf(d², w) is exp(-d² / 2w²). A median of zero means that most rows are the same.
        self._width = float(np.sqrt(np.median(distances) / 2)) or 1.0
        kernel = rbf(distances, self._width)
        kernel[np.diag_indices(len(kernel))] += RIDGE
        self._mean = one_hot.mean(axis=0)
        self._weights = cho_solve(cho_factor(kernel, overwrite_a=True), one_hot - self._mean)
        return self

    @property
    def n_bits(self) -> int:
        """The number of classes."""
        return len(self._classes)

    def project(self, X: Matrix) -> Float64Array:
        """Return the score of each class, (n, d) to (n, n_bits)."""
        scores = np.empty((len(X), self.n_bits))
        for rows in row_blocks(X):
            kernel: Any = rbf(
                squared_distances(X[rows].astype(np.float64), self._support), self._width
            )
            scores[rows] = kernel @ self._weights + self._mean
        return scores

    def encode(self, X: Matrix) -> Codes:
        """Return packed codes, (n, d) to (n, ceil(n_bits / 8)) uint8."""
        return pack(np.eye(self.n_bits)[self.project(X).argmax(axis=1)])
