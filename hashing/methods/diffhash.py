"""DiffHash and LDAHash: projections from the covariances of similar and dissimilar pairs."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Float64Array
from hashing.labels import Labels
from hashing.parts.linear import LinearHasher
from hashing.parts.pairs import MAX_PAIRS, Pairs, sample_pairs
from hashing.parts.thresholds import Cuts
from hashing.validation import InvalidInput, check_int, check_number

VARIANTS = ("dif", "lda")
# A direction counts if the differences of pairs have more than this share of the variance of the
# widest direction: more than rounding leaves in a direction without variance.
MIN_VARIANCE = 1e-10
# The rounding of BLAS and LAPACK changes with the number of threads. Unit vectors are rounded to a
# grid that is far coarser than that, and far finer than what could matter to a bit.
GRID = 2.0**16


class DiffHash(LinearHasher):
    """Bits are sign(p·x - t): p brings similar pairs together and dissimilar ones apart.

    With Σ_P and Σ_N the covariances of the differences x - x' of similar and of dissimilar pairs,
    the projections p minimise pᵀ(α Σ_P - Σ_N)p: they are its eigenvectors of smallest eigenvalues.
    Each threshold t then minimises, for its bit alone, the sum of the rates of false negatives
    (similar pairs whose bits differ) and false positives (dissimilar pairs whose bits agree).

    For labels of c classes, Σ_N - Σ_P is in expectation the covariance between classes, of rank
    c - 1. With α = 1, bits beyond the first c - 1 follow the noise of the sample, and longer codes
    rank worse than short ones.

    Parameters
    ----------
    n_bits : int
        Code length, at most the number of independent directions of the labelled descriptors,
        and so of dimensions.
    variant : {"dif", "lda"}
        "dif" is described above. With "lda" (LDAHash), p minimises the ratio pᵀΣ_P p / pᵀΣ_N p.
    alpha : float
        α >= 0, the weight of similar pairs; has no effect on "lda". At 0, the projections are the
        principal components of the dissimilar differences.
    n_pairs : int
        Pairs of each kind, 1 to 100,000, drawn from the labelled rows.
    random_state : int
        Seed of the pairs.

    Raises
    ------
    InvalidInput
        By `fit`: no labels, fewer than two classes, no class of two items, or more bits than
        independent directions.

    References
    ----------
    C. Strecha, A. M. Bronstein, M. M. Bronstein, P. Fua, "LDAHash: Improved Matching with Smaller
    Descriptors", IEEE Trans. PAMI 34(1), 2012: the parts on the difference of covariances (DIF),
    on linear discriminant analysis (LDA) and on the selection of thresholds.

    Choices: α = 1, with which the published decline of longer codes appears, and 10,000 pairs of
    each kind. Deviations: pairs are drawn from class labels. Thresholds are found by a sweep over
    all cuts between labelled items, not on a histogram; a threshold that leaves all items on one
    side is not considered, because its bit would carry no information. "lda" is solved through
    Σ_P p = λ (Σ_P + Σ_N) p, which has the same solutions in the same order as the paper's
    Σ_P p = λ' Σ_N p and also exists if Σ_N is singular. Projections have length 1, which changes
    no bit, and their entries are rounded to multiples of 2⁻¹⁶.
    """

    method: ClassVar[str] = "diffhash"
    needs_labels: ClassVar[bool] = True
    many_labels: ClassVar[bool] = True

    def __init__(
        self,
        n_bits: int = 64,
        *,
        variant: str = "dif",
        alpha: float = 1.0,
        n_pairs: int = 10_000,
        random_state: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.variant = variant
        self.alpha = alpha
        self.n_pairs = n_pairs
        self.random_state = random_state

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_int("n_pairs", self.n_pairs, 1, MAX_PAIRS)
        check_number("alpha", self.alpha)
        if self.alpha < 0:
            raise InvalidInput(f"alpha must be 0 or more, got {self.alpha}")
        if not isinstance(self.variant, str) or self.variant not in VARIANTS:
            raise InvalidInput(f"variant must be {' or '.join(VARIANTS)}, got {self.variant!r:.80}")

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        rng = np.random.default_rng(self.random_state)
        pairs = np.concatenate(sample_pairs(cast(Labels, y), self.n_pairs, rng))
        rows, places = np.unique(pairs, return_inverse=True)
        pairs = places.reshape(pairs.shape)
        centre = X[rows].mean(axis=0, dtype=np.float64)
        centred = X[rows] - centre
        A = self._projections(centred, pairs, rng)
        thresholds = self._thresholds((centred @ A).astype(np.float32), pairs)
        bias = -(A * centre[:, None]).sum(axis=0) - thresholds
        self._set_linear(A, bias, centre)

    def _projections(self, X: Float64Array, pairs: Pairs, rng: np.random.Generator) -> Float64Array:
        """Return the (d, n_bits) projections: unit columns, best first, rounded to the grid."""
        positive = _covariance(X, pairs[: self.n_pairs])
        negative = _covariance(X, pairs[self.n_pairs :])
        variance, basis = np.linalg.eigh(positive + negative)
        wide = variance > MIN_VARIANCE * variance[-1]
        if wide.sum() < self.n_bits:
            raise InvalidInput(
                f"{self.n_bits} bits need as many independent directions in which labelled "
                f"descriptors differ; there are {wide.sum()}"
            )
        basis = basis[:, wide]
        if self.variant == "lda":
            basis /= np.sqrt(variance[wide])
        difference = basis.T @ (self.alpha * positive - negative) @ basis
        A: Float64Array = basis @ np.linalg.eigh(difference)[1][:, : self.n_bits]
        # An eigenvector's sign is arbitrary; its product with a random vector fixes it.
        A *= np.sign(rng.standard_normal(len(A)) @ A) / np.linalg.norm(A, axis=0)
        return np.rint(A * GRID) / GRID

    def _thresholds(self, values: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float32]:
        """Return the threshold of each bit that separates pairs best.

        It separates few similar pairs and many dissimilar ones.
        """
        cuts = Cuts(values, pairs)
        wrong = cuts.separated(np.repeat([1, -1], self.n_pairs))
        return cuts.thresholds(np.arange(self.n_bits), wrong.argmin(axis=1))


def _covariance(X: Float64Array, pairs: Pairs) -> Float64Array:
    """Return the mean of (x - x')(x - x')ᵀ over pairs."""
    differences = X[pairs[:, 0]] - X[pairs[:, 1]]
    covariance: Float64Array = differences.T @ differences / len(pairs)
    return covariance
