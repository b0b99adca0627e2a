"""Anchor graph hashing: eigenvectors of a graph through anchors, extended to any point."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Float64Array, Matrix, row_blocks
from hashing.base import Hasher
from hashing.labels import Labels
from hashing.parts.anchors import check_width, kmeans, squared_distances
from hashing.parts.blas import one_blas_thread
from hashing.parts.spectral import coarse, eigenvectors
from hashing.shapes import Shape, UpTo
from hashing.validation import InvalidInput, check_int

Indices = NDArray[np.intp]

MAX_ANCHORS = 8192
MAX_ROUNDS = 1000
# An eigenvalue, or a share of the graph's weight, below this counts as 0.
NEGLIGIBLE = 1e-8


class AGH(Hasher):
    """Bits are signs of eigenfunctions of a graph that joins descriptors near the same anchors.

    A descriptor x is a mixture z(x) of its s nearest anchors u, with shares proportional to
    exp(-‖x - u‖² / t). The anchor graph joins two descriptors by A = Z Λ⁻¹ Zᵀ, Λ = diag(Zᵀ 1); the
    rows of Z are the mixtures. Its smoothest eigenvectors, A y = σ y with yᵀy = n and large σ,
    extend to y(x) = Wᵀ z(x) with W = √n Λ^(-1/2) V Σ^(-1/2), where V and Σ are the eigenvectors and
    eigenvalues of the small matrix M = Λ^(-1/2) ZᵀZ Λ^(-1/2). The constant eigenvector, σ = 1, is
    left out. One layer has one bit y > 0 for each eigenvector.

    Two layers have a second bit for each: y > b⁺ where y > 0, otherwise y < b⁻. With v = y - b⁺
    where y > 0 and v = b⁻ - y elsewhere, the two thresholds are those with 1ᵀ v = 0 and the least
    vᵀ L v, L = I - A: the bit is balanced in the mean, and smooth on the graph. All bits of the
    first layer come first, then those of the second. If `n_bits` is odd, the last eigenvector has
    no second bit.

    Labels are ignored.

    Parameters
    ----------
    n_bits : int
        Code length: at most `n_anchors` - 1 times `layers`.
    layers : {1, 2}
        Bits per eigenvector. The default is 2, the better of the two in the paper.
    n_anchors : int
        Number of anchors, 2 to 8,192: the centres of k-means. There are fewer if there are fewer
        or repeated descriptors, because an anchor that is nearest to no descriptor is dropped.
    n_nearest : int
        s, 2 to `n_anchors`. The paper has 2 for MNIST and 5 for the features of natural images; a
        small s may leave the graph in pieces.
    rounds : int
        Rounds of k-means, 0 to 1,000. With 0, anchors are random descriptors.
    random_state : int
        Seed of the descriptors from which k-means starts.

    Raises
    ------
    InvalidInput
        By `fit`: more bits than the number of anchors found, or of eigenvalues of their graph
        above 0, allows; distances too large for float32.

    References
    ----------
    W. Liu, J. Wang, S. Kumar, S.-F. Chang, "Hashing with Graphs", ICML 2011, section 3: anchor
    graphs, eigenfunction generalization, hierarchical hashing; section 4: 300 anchors. As in the
    authors' code, √t is the mean distance of a descriptor to its s-th nearest anchor.

    Deviations: only the constant eigenvector is left out; the authors' code leaves out all with
    σ > 0.999. Those distinguish parts that the graph hardly joins, which should not share a code.
    If the graph does not join y > 0 and y <= 0 at all, every b⁺ + b⁻ is equally good; here it is 0.
    """

    method: ClassVar[str] = "agh"

    anchors_: NDArray[np.float32]
    width_: NDArray[np.float32]
    weights_: NDArray[np.float32]
    thresholds_: NDArray[np.float32]

    def __init__(
        self,
        n_bits: int = 64,
        *,
        layers: int = 2,
        n_anchors: int = 300,
        n_nearest: int = 5,
        rounds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.layers = layers
        self.n_anchors = n_anchors
        self.n_nearest = n_nearest
        self.rounds = rounds
        self.random_state = random_state

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_int("layers", self.layers, 1, 2)
        check_int("n_anchors", self.n_anchors, 2, MAX_ANCHORS)
        check_int("n_nearest", self.n_nearest, 2, self.n_anchors)
        check_int("rounds", self.rounds, 0, MAX_ROUNDS)
        self._check_enough(self.n_anchors, self.n_anchors - 1)

    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the arrays that `fit` sets, by attribute name."""
        anchors = UpTo(self.n_anchors, "anchors")
        return {
            "anchors_": (anchors, n_features),
            "width_": (1,),
            "weights_": (anchors, self._n_first),
            "thresholds_": (2, self.n_bits - self._n_first),
        }

    def _check_learned(self, n_features: int) -> None:
        self._check_enough(len(self.anchors_), len(self.anchors_) - 1)
        check_width(self.width_)

    @property
    def _n_first(self) -> int:
        """Number of bits of the first layer, one for each eigenvector."""
        return -(-self.n_bits // self.layers)

    def _check_enough(self, n_anchors: int, n_eigenvectors: int) -> None:
        bound = self.layers * n_eigenvectors
        if self.n_bits > bound:
            raise InvalidInput(
                f"agh of {self.layers} layers makes at most {bound} bits from {n_anchors} anchors "
                f"with {n_eigenvectors} eigenvectors, got n_bits {self.n_bits}"
            )

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        with one_blas_thread():
            self._learn(X)

    def _learn(self, X: NDArray[Any]) -> None:
        anchors, nearest, distances = self._choose_anchors(X)
        m = len(anchors)
        self._check_enough(m, m - 1)
        width = float(np.sqrt(distances[:, -1]).mean())
        limits = np.finfo(np.float32)
        if not float(limits.tiny) < width < float(limits.max):
            raise InvalidInput(
                f"the mean distance to the anchors, {width:.3g}, is not a float32; scale the "
                "descriptors"
            )
        self.anchors_ = anchors
        self.width_ = np.array([width], np.float32)
        shares = mixtures(distances, self.width_)
        values, W = eigenfunctions(nearest, shares, m)
        self._check_enough(m, int(np.count_nonzero(values > NEGLIGIBLE)))
        self.weights_ = coarse(W[:, : self._n_first]).astype(np.float32)
        first = extend(nearest, shares, self.weights_)[:, : self.n_bits - self._n_first]
        self.thresholds_ = second_thresholds(first, nearest, shares, m)

    def _choose_anchors(self, X: NDArray[Any]) -> tuple[NDArray[np.float32], Indices, Float64Array]:
        rng = np.random.default_rng(self.random_state)
        anchors = np.unique(kmeans(X, self.n_anchors, rng, rounds=self.rounds), axis=0)
        nearest, distances = nearest_anchors(X, anchors, self.n_nearest)
        used = np.unique(nearest[:, 0])
        if len(used) < len(anchors):
            anchors = anchors[used]
            nearest, distances = nearest_anchors(X, anchors, self.n_nearest)
        return anchors, nearest, distances

    def _row_size(self) -> int:
        return 4 * len(self.anchors_)  # `nearest_anchors` holds several arrays of this length.

    def _project(self, X: Matrix) -> Matrix:
        nearest, distances = nearest_anchors(X, self.anchors_, self.n_nearest)
        y = extend(nearest, mixtures(distances, self.width_), self.weights_)
        above, below = self.thresholds_
        first = y[:, : len(above)]
        second = np.where(first > 0, first - above, below - first)
        z: Any = np.concatenate([y, second], axis=1).astype(X.dtype, copy=False)
        return cast(Matrix, z)


def nearest_anchors(
    X: NDArray[Any], anchors: NDArray[np.float32], s: int
) -> tuple[Indices, Float64Array]:
    """Return the s nearest anchors of each row, nearest first, or all if there are fewer.

    Returns
    -------
    nearest : (n, s) intp
    distances : (n, s) float64
        Squared.
    """
    s = min(s, len(anchors))
    nearest = np.empty((len(X), s), np.intp)
    distances = np.empty((len(X), s))
    for rows in row_blocks(X):
        # In float64: the rounding of float32 depends on the other rows, and would decide which
        # anchors are nearest.
        to_all = squared_distances(X[rows].astype(np.float64), anchors)
        unordered = np.argpartition(to_all, s - 1, axis=1)[:, :s]
        order = np.take_along_axis(to_all, unordered, axis=1).argsort(axis=1, kind="stable")
        nearest[rows] = np.take_along_axis(unordered, order, axis=1)
        distances[rows] = np.take_along_axis(to_all, nearest[rows], axis=1)
    return nearest, distances


def mixtures(distances: Float64Array, width: NDArray[np.float32]) -> Float64Array:
    """Return the shares (n, s) of the nearest anchors.

    They are exp(-distances / width²), each row divided by its sum. The nearest anchor's distance
    is subtracted first, because far away all of them would underflow.
    """
    shares = np.exp((distances[:, :1] - distances) / float(width.item()) ** 2)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def extend(nearest: Indices, shares: Float64Array, W: NDArray[np.float32]) -> Float64Array:
    """Return Z W: values (n, k) of the eigenfunctions from those at the anchors, W (m, k)."""
    y = np.zeros((len(nearest), W.shape[1]))
    for anchor, share in zip(nearest.T, shares.T, strict=True):
        y += share[:, None] * W[anchor]
    return y


def graph(nearest: Indices, shares: Float64Array, m: int) -> tuple[Any, Float64Array]:
    """Return Z (n, m), sparse, and the diagonal of Λ, the weight of each anchor."""
    from scipy.sparse import csr_array

    n, s = nearest.shape
    Z = csr_array((shares.ravel(), nearest.ravel(), np.arange(n + 1) * s), shape=(n, m))
    return Z, np.bincount(nearest.ravel(), shares.ravel(), minlength=m).astype(np.float64)


def eigenfunctions(
    nearest: Indices, shares: Float64Array, m: int
) -> tuple[Float64Array, Float64Array]:
    """Return the graph's eigenvalues and W, without the constant eigenvector.

    Returns
    -------
    values : (m - 1,)
        Largest first.
    W : (m, m - 1)
    """
    n = len(nearest)
    Z, mass = graph(nearest, shares, m)
    M = (Z.T @ Z).toarray() / np.sqrt(np.outer(mass, mass))
    # The constant eigenvector is known. Subtracting it works even if the eigenvalue 1 is multiple.
    constant = np.sqrt(mass / n)
    values, V = eigenvectors(M - np.outer(constant, constant))
    values, V = values[:-1], V[:, :-1]
    return values, np.sqrt(n / mass)[:, None] * V / np.sqrt(np.maximum(values, NEGLIGIBLE))


def second_thresholds(
    y: Float64Array, nearest: Indices, shares: Float64Array, m: int
) -> NDArray[np.float32]:
    """Return b⁺ and b⁻, (2, k), for eigenvectors y (n, k).

    With e the indicator of y > 0 and c = b⁺ + b⁻, v is |y| - c e + b⁻. Because L 1 = 0, c minimises
    (|y| - c e)ᵀ L (|y| - c e); then 1ᵀ v = 0 gives b⁻.
    """
    n = len(y)
    Z, mass = graph(nearest, shares, m)
    e, size = (y > 0).astype(np.float64), np.abs(y)
    at_anchors = Z.T @ e
    smooth = at_anchors / mass[:, None]
    e_L_e = e.sum(axis=0) - (at_anchors * smooth).sum(axis=0)
    y_L_e = (size * e).sum(axis=0) - ((Z.T @ size) * smooth).sum(axis=0)
    c = np.where(e_L_e > NEGLIGIBLE * n, y_L_e / np.maximum(e_L_e, NEGLIGIBLE * n), 0.0)
    below = c * e.mean(axis=0) - size.mean(axis=0)
    return np.stack([c - below, below]).astype(np.float32)
