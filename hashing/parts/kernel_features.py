"""Kernel features, similarities to a few anchors, in which `ksh` and `sdh` learn hyperplanes."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashing.arrays import Float64Array, Matrix, row_blocks
from hashing.base import Hasher
from hashing.labels import Labels
from hashing.parts.anchors import check_width, rbf, sample, squared_distances
from hashing.parts.pairs import labelled
from hashing.shapes import Shape, UpTo
from hashing.validation import InvalidInput, check_int

MAX_ANCHORS = 10_000
MAX_LABELLED = 1_000_000

Classes = NDArray[np.intp | np.bool_]
"""The class of each row, counted from 0, (l,) intp; or which classes each row has, (l, c) bool."""


class KernelHasher(Hasher):
    """The common part of `ksh` and `sdh`: hyperplanes in centred kernel features.

    The features of x are k(x) - μ with k_j(x) = exp(-‖x - a_j‖² / (2 σ²)). The anchors a_j are
    sampled uniformly from the fitted descriptors, and σ² is the mean squared distance from the
    fitted descriptors to the anchors. A bit is the side of its hyperplane.

    Attributes
    ----------
    anchors_ : (m, d) float32
    width_ : (1,) float32
        σ.
    weights_ : (m, n_bits) float32
    bias_ : (n_bits,) float32
    """

    needs_labels: ClassVar[bool] = True
    many_labels: ClassVar[bool] = True

    n_anchors: int
    max_labelled: int
    anchors_: NDArray[np.float32]
    width_: NDArray[np.float32]
    weights_: NDArray[np.float32]
    bias_: NDArray[np.float32]

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_int("n_anchors", self.n_anchors, 1, MAX_ANCHORS)
        check_int("max_labelled", self.max_labelled, 2, MAX_LABELLED)

    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the arrays that `fit` sets, by attribute name."""
        anchors = UpTo(self.n_anchors, "anchors")
        return {
            "anchors_": (anchors, n_features),
            "width_": (1,),
            "weights_": (anchors, self.n_bits),
            "bias_": (self.n_bits,),
        }

    def _check_learned(self, n_features: int) -> None:
        check_width(self.width_)

    def _fit_anchors(self, X: NDArray[Any], rng: np.random.Generator) -> None:
        self.anchors_ = sample(X, self.n_anchors, rng)
        width = np.sqrt(_mean_squared_distance(X, self.anchors_))
        self.width_ = np.array([width], np.float32)

    def _draw_labelled(
        self, y: Labels | None, rng: np.random.Generator
    ) -> tuple[NDArray[np.intp], Classes]:
        """Return labelled rows, at most `max_labelled`, and their classes."""
        y = cast(Labels, y)  # `needs_labels`: `fit` has refused None.
        rows = labelled(y)
        if len(rows) > self.max_labelled:
            rows = np.sort(rng.choice(rows, self.max_labelled, replace=False))
            labelled(y[rows])  # Two classes must be left.
        if y.ndim == 2:
            return rows, np.asarray(y[rows], bool)
        return rows, np.unique(y[rows], return_inverse=True)[1]

    def _kernel(self, X: NDArray[Any]) -> Float64Array:
        """Return k of each row of X, (n, m)."""
        k = np.empty((len(X), len(self.anchors_)))
        for rows in row_blocks(X):
            k[rows] = self._kernel_of_block(X[rows].astype(np.float64, copy=False))
        return k

    def _mean_kernel(self, X: NDArray[Any]) -> Float64Array:
        """Return the mean of k over the rows of X, (m,)."""
        total = np.zeros(len(self.anchors_))
        for rows in row_blocks(X):
            total += self._kernel_of_block(X[rows].astype(np.float64)).sum(axis=0)
        return total / len(X)

    def _set_hyperplanes(
        self, weights: Float64Array, mean: Float64Array, intercept: ArrayLike = 0.0
    ) -> None:
        """Store z = (k - mean)·weights + intercept as k·weights + bias."""
        self.weights_ = weights.astype(np.float32)
        exact = self.weights_.astype(np.float64)
        self.bias_ = (np.asarray(intercept) - mean @ exact).astype(np.float32)

    def _kernel_of_block(self, block: Float64Array) -> Float64Array:
        k = rbf(squared_distances(block, self.anchors_), self.width_.item())
        return k.astype(np.float64, copy=False)

    def _row_size(self) -> int:
        return len(self.anchors_)

    def _project(self, X: Matrix) -> Matrix:
        # Always in float64: in z many features of one sign cancel, so float32 would leave too
        # many bits uncertain. Float64 costs less than projecting those rows again.
        k = self._kernel_of_block(X.astype(np.float64, copy=False))
        z = k @ self.weights_.astype(np.float64) + self.bias_
        return z.astype(np.float32) if X.dtype == np.float32 else z


def class_sums(F: Float64Array, classes: Classes) -> Float64Array:
    """Return the sums of the rows of F over each class, (l, m) to (c, m)."""
    if classes.ndim == 2:
        return np.asarray(classes.T.astype(np.float64) @ F)
    sums = np.zeros((classes.max() + 1, F.shape[1]))
    np.add.at(sums, classes, F)
    return sums


def _mean_squared_distance(X: NDArray[Any], anchors: NDArray[np.float32]) -> float:
    """Return the mean of ‖x - a‖² over all pairs; InvalidInput if it is only rounding."""
    mean = X.mean(axis=0, dtype=np.float64)
    spread = X.var(axis=0, dtype=np.float64).sum()
    distance = float(spread + ((anchors - mean) ** 2).sum(axis=1).mean())
    mean_size = float(np.linalg.norm(mean))
    if distance <= 1e-12 * mean_size**2:
        if (X[0] == X).all():
            raise InvalidInput(f"all {len(X)} descriptors are the same: there is nothing to learn")
        raise InvalidInput(
            f"the descriptors lie within {distance**0.5:.2g} of each other but {mean_size:.2g} "
            "from the origin, too far for exact distances: subtract their mean first"
        )
    return distance
