"""Iterative quantization: principal directions, rotated so that signs lose little."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Float64Array, row_blocks
from hashing.labels import Labels
from hashing.parts.blas import one_blas_thread
from hashing.parts.linear import LinearHasher
from hashing.parts.moments import fold
from hashing.parts.pairs import labelled
from hashing.parts.principal import RANK_TOLERANCE, coarse_for, scatter
from hashing.validation import InvalidInput, check_bool, check_int, check_number

MAX_ROUNDS = 10_000


class ITQ(LinearHasher):
    """Bits are sign(Rᵀ Wᵀ (x - μ)): W the leading directions, R the rotation that fits signs best.

    With V the projections (X - μ) W, the rotation lowers the quantization loss ‖B - V R‖², B in
    {-1, 1}, alternately: B = sign(V R) for given R; for given B, the R that solves the orthogonal
    Procrustes problem, by the singular value decomposition of Vᵀ B.

    Parameters
    ----------
    n_bits : int
        Code length. It may exceed the number r of available directions: the rank of the centred
        descriptors or, if supervised, at most the number of classes less one. R is then r by
        `n_bits` with orthonormal rows.
    rounds : int
        Rounds of the minimisation, 0 to 10,000. With 0 the rotation stays random.
    supervised : bool
        Take W from canonical correlation analysis (CCA) of the labelled descriptors and their
        classes, rather than from principal component analysis (PCA). `fit` then needs labels of
        two classes or more; μ and the rotation are fitted to all descriptors.
    regularization : float
        For CCA, above 0 and at most 1: this times the mean variance of a dimension is added to the
        variance of each.
    random_state : int
        Seed of the rotation to start from.

    Raises
    ------
    InvalidInput
        By `fit`: all descriptors are the same; supervised without labels of two classes, or with
        class means that are all the same.

    References
    ----------
    Y. Gong, S. Lazebnik, "Iterative Quantization: A Procrustean Approach to Learning Binary
    Codes", CVPR 2011: PCA section 2.1, rotation section 2.2 and equation (2), CCA section 4.
    Y. Gong, S. Lazebnik, A. Gordo, F. Perronnin, the same in IEEE Trans. PAMI 35(12), 2013.

    CCA solves Cxy Cyy⁺ Cyx w = λ² (Cxx + ρI) w, with Cyy of the classes' indicators, and scales
    each w by λ, as in the paper. Deviations:

    - ρ is relative, so that units do not matter. The paper's 0.0001 is about 0.1 of the variance
      of a dimension of GIST, hence the default. The paper also adds it to Cyy, where it only
      replaces a missing inverse; here that is the pseudoinverse.
    - The paper has as many directions as bits. With fewer, its R for V padded with zeros is
      equivalent to the R with orthonormal rows here; the authors' code pads CCA in this way.
    - The random rotation to start from is the orthogonal factor of QᵀG, with Q an orthonormal
      basis of W's directions and G Gaussian. It is uniformly distributed like theirs, and does not
      depend on the signs that an eigenvalue solver happens to give to W.
    """

    method: ClassVar[str] = "itq"

    def __init__(
        self,
        n_bits: int = 64,
        *,
        rounds: int = 50,
        supervised: bool = False,
        regularization: float = 0.1,
        random_state: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.rounds = rounds
        self.supervised = supervised
        self.regularization = regularization
        self.random_state = random_state

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_int("rounds", self.rounds, 0, MAX_ROUNDS)
        check_bool("supervised", self.supervised)
        check_number("regularization", self.regularization)
        if not 0 < self.regularization <= 1:
            raise InvalidInput(
                f"regularization must be above 0 and at most 1, got {self.regularization}"
            )

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        with one_blas_thread():
            self._learn(X, y)

    def _learn(self, X: NDArray[Any], y: Labels | None) -> None:
        mean, covariance = scatter(X)
        if not covariance.any():
            raise InvalidInput("itq needs descriptors that differ, but all of them are the same")
        W = self._canonical(X, y) if self.supervised else pca(covariance, self.n_bits)
        V = np.empty((len(X), W.shape[1]))
        for rows in row_blocks(X):
            V[rows] = (X[rows] - mean) @ W
        A = W @ minimise_loss(V, self._initial_rotation(W), self.rounds)
        folded = fold(coarse_for(covariance, A).T, mean, np.ones(len(mean)))
        self._set_linear(*folded, mean)

    def _canonical(self, X: NDArray[Any], y: Labels | None) -> Float64Array:
        if y is None:
            raise InvalidInput("supervised itq learns from labels: fit(X, y) needs y")
        rows = labelled(y)
        return cca(X[rows], y[rows], self.n_bits, self.regularization)

    def _initial_rotation(self, W: Float64Array) -> Float64Array:
        rng = np.random.default_rng(self.random_state)
        G = rng.standard_normal((len(W), self.n_bits))
        return orthogonal(orthogonal(W).T @ G)


def pca(covariance: Float64Array, k: int) -> Float64Array:
    """Return the k leading eigenvectors (d, k), or those with an eigenvalue above 0 if fewer."""
    from scipy.linalg import eigh

    d = len(covariance)
    values, W = eigh(covariance, subset_by_index=[max(0, d - k), d - 1])
    return np.asarray(W[:, values > RANK_TOLERANCE * values[-1]])


def cca(X: NDArray[Any], y: Labels, k: int, regularization: float) -> Float64Array:
    """Return the k leading canonical directions λw (d, k) of descriptors (n, d) and their labels.

    There are fewer than k if the classes, less one, or the dimensions are fewer; of items with
    several labels, if the rank of their covariance is less.
    """
    from scipy.linalg import eigh

    mean, Cxx = scatter(X)
    d = len(mean)
    between, rank = _explained(X - mean, y)
    if between.trace() <= RANK_TOLERANCE * Cxx.trace():
        raise InvalidInput("supervised itq needs classes whose means differ, but all are the same")
    ridge = regularization * Cxx.trace() / d * np.eye(d)
    k = min(k, d, rank)
    values, W = eigh(between, Cxx + ridge, subset_by_index=[d - k, d - 1])
    kept = values > RANK_TOLERANCE * values[-1]
    return np.asarray(W[:, kept] * np.sqrt(values[kept]))


def _explained(X: NDArray[Any], y: Labels) -> tuple[Float64Array, int]:
    """Return Cxy Cyy⁺ Cyx of centred descriptors and their labels, and the rank of Cyy."""
    if y.ndim == 2:
        Y = y - y.mean(axis=0)
        Cxy, Cyy = X.T @ Y / len(X), Y.T @ Y / len(X)
        inverse = np.linalg.pinv(Cyy, RANK_TOLERANCE, hermitian=True)
        rank = np.linalg.matrix_rank(Cyy, RANK_TOLERANCE * np.linalg.norm(Cyy, 2), hermitian=True)
        return np.asarray(Cxy @ inverse @ Cxy.T), int(rank)
    order = np.argsort(y, kind="stable")
    _, first, counts = np.unique(y[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(X[order], first, axis=0)
    # It is the covariance of the class means.
    return (sums.T / counts) @ sums / len(X), len(counts) - 1


def minimise_loss(V: Float64Array, R: Float64Array, rounds: int) -> Float64Array:
    """Lower ‖sign(V R) - V R‖² alternately over signs and R with orthonormal rows, from R."""
    for _ in range(rounds):
        A = np.zeros(R.shape)
        for rows in row_blocks(V):
            A += V[rows].T @ np.where(V[rows] @ R > 0, 1.0, -1.0)
        R = orthogonal(A)
    return R


def orthogonal(A: Float64Array) -> Float64Array:
    """Return the orthogonal factor of A.

    Among all Q with orthonormal rows (or columns), it has the largest tr(Qᵀ A).
    """
    U, _, Vt = np.linalg.svd(A, full_matrices=False)
    return np.asarray(U @ Vt)
