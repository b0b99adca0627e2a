"""RaBitQ: signs after a random rotation, with factors that turn codes into estimated distances."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import Codes, code_size
from hashing.arrays import Float64Array, Matrix, row_blocks
from hashing.labels import Labels
from hashing.parts.blas import one_blas_thread
from hashing.parts.estimate import (
    EPSILON,
    Metric,
    QueryTerms,
    bounds,
    check_metric,
    estimates,
    rounded,
)
from hashing.parts.linear import LinearHasher
from hashing.parts.moments import fold
from hashing.shapes import Shape
from hashing.validation import InvalidInput, check_bool, check_finite

# Multiplications, up to a small factor, that a uniformly distributed rotation may take.
_LARGEST_UNIFORM = 1 << 30


class RaBitQ(LinearHasher):
    """Bits are sign(A (x - μ)), where A is a part of a random rotation.

    With the three numbers per item that `factors` returns, a code gives an estimate of the distance
    between its item and a query that is not quantized to bits: `estimate`. It is unbiased, or
    nearly so with large rotations (see the deviations). Its error is bounded, and falls as 1 / √m
    with the number of bits m; `error_bound` returns the bound.

    Parameters
    ----------
    n_bits : int
        Code length, m. Up to the dimension d, A has m rows of a random rotation of d dimensions;
        beyond it, d columns of one of m dimensions, as if x were padded with zeros.
    center : bool
        Subtract the mean μ of the fitted descriptors. Estimates are the better, the nearer
        descriptors are to μ.
    normalize : bool
        Divide each descriptor by its length first, for estimates of the cosine. Without, the
        squared Euclidean distance and the dot product can be estimated.
    random_state : int
        Seed of A.

    Attributes
    ----------
    center_ : (d,) float32
        μ.

    References
    ----------
    J. Gao, C. Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for
    Approximate Nearest Neighbor Search", SIGMOD 2024 (arXiv:2405.12497), sections 3.1 to 3.3.
    Deviations:

    - The paper has at least as many bits as dimensions. Here there may be fewer; with b the code as
      ±1, the estimate of <x - μ, q - μ> is ‖x - μ‖² <b, A (q - μ)> / <b, A (x - μ)>, which is the
      paper's for m >= d. It is unbiased because a rotation of the space changes the distribution of
      A in no way.
    - The error follows from the length of Aᵀb, which is √m up to m = d, and computed beyond.
    - Where the larger of m and d times the square of the smaller exceeds 2³⁰, the rotation is a
      product of random signs and cosine transforms, because a uniformly distributed one takes time
      in proportion to that number. Estimates are then nearly unbiased.
    - A query is rounded to 256 levels, without the paper's random rounding to 16. This adds an
      error of about a hundredth of that of the bits.
    """

    method: ClassVar[str] = "rabitq"
    data_free: ClassVar[bool] = True

    center_: NDArray[np.float32]

    def __init__(
        self,
        n_bits: int = 64,
        *,
        center: bool = True,
        normalize: bool = False,
        random_state: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.center = center
        self.normalize = normalize
        self.random_state = random_state

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_bool("center", self.center)
        check_bool("normalize", self.normalize)

    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the arrays that `fit` sets, by attribute name."""
        return {**super().learned_shapes(n_features), "center_": (n_features,)}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that can be estimated."""
        return ("cosine",) if self.normalize else ("euclidean", "dot")

    def factors(self, X: ArrayLike, metric: Metric = "euclidean") -> NDArray[np.float32]:
        """Return what estimates need of each item besides its code: scale, offset and error.

        Parameters
        ----------
        X : (n, d)
            The descriptors that `encode` turns into the codes.
        metric : {"euclidean", "cosine", "dot"}
            One of `metrics`.

        Returns
        -------
        (n, 3) float32
            See `hashing.parts.estimate`.
        """
        self._check_metric(metric)
        X = self._check_queries(X)
        check_finite(X)
        found = np.empty((len(X), 3), np.float32)
        for rows in row_blocks(X, 1024):
            with np.errstate(over="ignore"):
                found[rows] = self._factors(X[rows].astype(np.float32), metric)
            if not np.isfinite(found[rows]).all():
                raise InvalidInput(
                    "the estimates overflow float32: the largest value is "
                    f"{np.abs(X[rows]).max():.3g}; scale the descriptors down"
                )
        return found

    def _factors(self, X: NDArray[np.float32], metric: Metric) -> Float64Array:
        _, square, r = self._centred(X)
        z = r @ self.weights_
        length = (r * r).sum(axis=1)
        norm = np.abs(z).sum(axis=1)
        ratio = np.divide(length, norm, out=np.zeros(len(r)), where=norm > 0)
        # ‖Aᵀb‖² - <Aᵀb, x - μ>² / ‖x - μ‖²: how much of Aᵀb is orthogonal to the item.
        across = np.full(len(r), float(self.n_bits))
        if self.n_bits > r.shape[1]:
            back = np.where(z > 0, 1.0, -1.0) @ self.weights_.T
            across = (back * back).sum(axis=1)
        across = np.maximum(across * ratio**2 - length, 0)
        error = np.sqrt(across / max(1, r.shape[1] - 1))
        if metric == "euclidean":
            return np.stack([2 * ratio, -length, 2 * error], axis=1)
        if metric == "cosine":
            # As half the squared distance of unit vectors; a vector of zeros is made one.
            return np.stack([ratio, -(length + 1 - square) / 2, error], axis=1)
        return np.stack([ratio, r @ self.center_, error], axis=1)

    def query_terms(self, Q: ArrayLike, metric: Metric = "euclidean") -> QueryTerms:
        """Return what estimates need of each query.

        Parameters
        ----------
        Q : (q, d)
        metric : {"euclidean", "cosine", "dot"}
            One of `metrics`.
        """
        self._check_metric(metric)
        Q = self._check_queries(Q)
        check_finite(Q)
        q, square, r = self._centred(Q.astype(np.float32))
        length = (r * r).sum(axis=1)
        if metric == "euclidean":
            constants = length
        elif metric == "cosine":
            constants = (length + 1 - square) / 2
        else:
            constants = -(q @ self.center_)
        U = r @ self.weights_
        vectors = rounded(U)
        roundings = np.linalg.norm(U - vectors, axis=1)
        return QueryTerms(vectors, constants, np.sqrt(length), roundings)

    def estimate(
        self,
        Q: ArrayLike,
        codes: Codes,
        factors: NDArray[np.float32],
        metric: Metric = "euclidean",
    ) -> Float64Array:
        """Return estimated distances of queries to items, (q, n) float64.

        They are those of squared Euclidean distances, of one minus the cosines, or of minus the dot
        products. An estimate may lie outside of the range of what it estimates.

        Parameters
        ----------
        Q : (q, d)
        codes, factors : (n, size) uint8, (n, 3) float32
            Of the items: what `encode`, and `factors` with the same metric, return.
        metric : {"euclidean", "cosine", "dot"}
            One of `metrics`.
        """
        if np.shape(codes)[1:] != (code_size(self.n_bits),) or np.shape(factors) != (len(codes), 3):
            raise InvalidInput(
                f"expected codes of shape (n, {code_size(self.n_bits)}) and factors of shape (n, "
                f"3), got {np.shape(codes)} and {np.shape(factors)}"
            )
        return estimates(self.query_terms(Q, metric), codes, factors)

    def error_bound(
        self,
        Q: ArrayLike,
        factors: NDArray[np.float32],
        metric: Metric = "euclidean",
        epsilon: float = EPSILON,
    ) -> Float64Array:
        """Return by how much `estimate` may be off, (q, n) float64.

        It is the bound of the paper (theorem 3.2), with its epsilon0. The share of pairs for which
        it holds is at least `hashing.parts.estimate.share_within(epsilon, d)`: 94 % for 1.9.
        """
        return bounds(self.query_terms(Q, metric), factors, epsilon)

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        d = X.shape[1]
        mean = np.zeros(d)
        if self.center:
            for rows in row_blocks(X):
                mean += self._unit(X[rows].astype(np.float64)).sum(axis=0)
            mean /= len(X)
        rng = np.random.default_rng(self.random_state)
        with one_blas_thread():
            if self.n_bits <= d:
                A = rotation(d, self.n_bits, rng)
            else:
                A = rotation(self.n_bits, d, rng).T
        self.center_ = mean.astype(np.float32)
        self._set_linear(*fold(A, self.center_.astype(np.float64), np.ones(d)), self.center_)

    def _project(self, X: Matrix) -> Matrix:
        return super()._project(self._unit(X))

    def _unit(self, X: Any) -> Any:
        """Return the rows divided by their lengths if `normalize`; rows of zeros stay."""
        if not self.normalize:
            return X
        # Divided by the largest value first, so that no square overflows.
        largest = np.abs(X).max(axis=1, keepdims=True)
        X = X / np.where(largest == 0, 1, largest)
        length = np.sqrt((X * X).sum(axis=1, keepdims=True))
        return X / np.where(length == 0, 1, length)

    def _centred(self, X: NDArray[np.float32]) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Return descriptors in float64 as they are coded, their squared lengths, and x - μ."""
        x = self._unit(X.astype(np.float64))
        return x, (x * x).sum(axis=1), x - self.center_

    def _check_metric(self, metric: str) -> None:
        check_metric(metric)
        if metric not in self.metrics:
            needed = "normalize" if metric == "cosine" else "normalize=False"
            raise InvalidInput(
                f"estimates of metric {metric!r} need a rabitq with {needed}; this one estimates "
                f"{' and '.join(self.metrics)}"
            )


def rotation(d: int, m: int, rng: np.random.Generator) -> Float64Array:
    """Return m <= d rows of a random rotation of d dimensions, (m, d).

    The rotation is uniformly distributed up to d m² = 2³⁰, and structured beyond.
    """
    if d * m * m > _LARGEST_UNIFORM:
        return structured_rotation(d, m, rng)
    Q, R = np.linalg.qr(rng.standard_normal((d, m)))
    # With the signs of the diagonal, the distribution is uniform; LAPACK does not choose them so.
    return np.asarray((Q * np.where(np.diag(R) < 0, -1, 1)).T)


def structured_rotation(d: int, m: int, rng: np.random.Generator) -> Float64Array:
    """Return m <= d rows of a rotation of d dimensions that is a product of fast ones, (m, d).

    A vector is multiplied by random signs and transformed by a discrete cosine transform, three
    times, as in "Orthogonal Random Features" (Yu et al., NeurIPS 2016), which has Hadamard
    transforms, of 2ⁿ dimensions only.
    """
    from scipy.fft import idct

    A = np.zeros((m, d))
    A[np.arange(m), rng.permutation(d)[:m]] = 1
    for _ in range(3):
        # Rows of the product so far, times a cosine transform and signs.
        A = idct(A, norm="ortho", axis=1, overwrite_x=True)
        A *= rng.choice([-1.0, 1.0], d)
    return np.asarray(A)
