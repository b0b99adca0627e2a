"""Similarity-sensitive hashing: bits boosted from thresholded features."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from hashing.arrays import Matrix, NotFinite
from hashing.base import Hasher
from hashing.labels import Labels
from hashing.parts.pairs import MAX_PAIRS, Pairs, sample_pairs
from hashing.parts.thresholds import Cuts
from hashing.shapes import Shape
from hashing.validation import InvalidInput, check_int

# A classifier without an error would have an infinite vote.
MAX_EDGE = 1 - 1e-6


class SSH(Hasher):
    """Bits are x_f > t, each with its dimension f and threshold t, boosted on pairs.

    A bit classifies a pair as similar if both items have the same bit. AdaBoost chooses the bits
    one after another: each time the dimension and threshold that classify the pairs best with
    their current weights. Then the pairs that the bit classifies wrongly get a larger weight.

    This is Shakhnarovich's similarity-sensitive coding, not semi-supervised hashing.

    Parameters
    ----------
    n_bits : int
        Code length. A dimension may give several bits.
    n_pairs : int
        Number of similar pairs, and of dissimilar ones, 1 to 100,000, drawn from the labelled rows.
        `fit` takes memory for 4 · `n_pairs` · d numbers of two bytes, and time in proportion to
        that and to `n_bits`.
    random_state : int
        Seed of the pairs.

    Raises
    ------
    InvalidInput
        By `fit`: no labels, fewer than two classes, no class of two items, or fewer different
        ways to cut the labelled descriptors in two by one dimension than bits.

    References
    ----------
    G. Shakhnarovich, "Learning Task-Specific Similarity", PhD thesis, MIT, 2005: algorithms
    4 (ThresholdRate, section 3.2) and 7 (boosted SSC, section 3.3.2). First published without
    boosting: G. Shakhnarovich, P. Viola, T. Darrell, "Fast Pose Estimation with
    Parameter-Sensitive Hashing", ICCV 2003.

    Choices: features are the dimensions of the descriptor, as in the thesis' boosted SSC (for
    other features, such as principal components, put this behind that transform in a pipeline),
    and 10,000 pairs of each kind. Deviations: the Hamming distance counts all bits equally; the
    thesis weights bit m by its vote α_m. All candidate thresholds are tried in one sweep. A
    threshold that leaves all items on one side is not a candidate, because the bit would carry no
    information, nor is one that was chosen before. If no candidate is better than chance, the
    thesis ends; here the best of them becomes the bit and the weights stay as they are, so that
    there are always `n_bits` bits.
    """

    method: ClassVar[str] = "ssh"
    needs_labels: ClassVar[bool] = True
    many_labels: ClassVar[bool] = True

    features_: NDArray[np.float32]
    thresholds_: NDArray[np.float32]

    def __init__(self, n_bits: int = 64, *, n_pairs: int = 10_000, random_state: int = 0) -> None:
        self.n_bits = n_bits
        self.n_pairs = n_pairs
        self.random_state = random_state

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        check_int("n_pairs", self.n_pairs, 1, MAX_PAIRS)

    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the arrays that `fit` sets, by attribute name."""
        return {"features_": (self.n_bits,), "thresholds_": (self.n_bits,)}

    def _check_learned(self, n_features: int) -> None:
        features = self.features_
        if not ((features >= 0) & (features < n_features) & (features == features.round())).all():
            raise InvalidInput(
                f"features_ must be dimensions, whole numbers from 0 to {n_features - 1}; they "
                f"range from {features.min():g} to {features.max():g}"
            )

    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        rng = np.random.default_rng(self.random_state)
        pairs = np.concatenate(sample_pairs(cast(Labels, y), self.n_pairs, rng))
        rows, places = np.unique(pairs, return_inverse=True)
        similar = np.repeat([1.0, -1.0], self.n_pairs)
        values = X[rows].astype(np.float32)
        boosted = boost(values, places.reshape(pairs.shape), similar, self.n_bits)
        self.features_ = boosted.features.astype(np.float32)
        self.thresholds_ = boosted.thresholds

    def _project(self, X: Matrix) -> Matrix:
        # A value that is not finite may be in a dimension that no bit uses.
        if not np.isfinite(X.sum()):
            raise NotFinite
        z: Matrix = X[:, self.features_.astype(np.intp)]
        z -= self.thresholds_
        return z


class Boosted(NamedTuple):
    """What `boost` chose, round by round: (n_rounds,) arrays."""

    features: NDArray[np.intp]
    thresholds: NDArray[np.float32]
    edges: NDArray[np.float64]
    """r = Σ w l c of the chosen classifier c; its weighted error is (1 - r) / 2."""


def boost(
    values: NDArray[np.float32], pairs: Pairs, similar: NDArray[np.float64], n_rounds: int
) -> Boosted:
    """Run AdaBoost on pairs over all thresholds of all features.

    A classifier c is +1 for a pair on one side of its threshold and -1 for a pair that it
    separates. Each round takes the one of largest r = Σ w l c, with vote
    α = ½ ln((1 + r) / (1 - r)), then weights pairs by w exp(-α l c), normalised. The training
    error of sign(Σ α c) is at most Π √(1 - r²) over the rounds with r > 0.

    Parameters
    ----------
    values : (n, d) float32
        d features of n items.
    pairs : (p, 2) intp
    similar : (p,) float64
        l: 1 for a similar pair, -1 for a dissimilar one.
    n_rounds : int

    Raises
    ------
    InvalidInput
        There are fewer different thresholds than rounds.
    """
    cuts = Cuts(values, pairs)
    if cuts.possible.sum() < n_rounds:
        raise InvalidInput(
            f"{n_rounds} bits need as many different thresholds between labelled descriptors; "
            f"there are {cuts.possible.sum()}"
        )
    weights = np.full(len(pairs), 1 / len(pairs))
    chosen = []
    for _ in range(n_rounds):
        signed = weights * similar
        separated = cuts.separated(signed)
        feature, cut = divmod(int(separated.argmin()), separated.shape[1])
        cuts.possible[feature, cut] = False
        threshold = cuts.thresholds(np.array([feature]), np.array([cut]))[0]
        edge = signed.sum() - 2 * separated[feature, cut]
        chosen.append((feature, threshold, edge))
        weights = _reweight(weights, similar, values[:, feature] > threshold, pairs, edge)
    features, thresholds, edges = zip(*chosen, strict=True)
    return Boosted(np.array(features), np.array(thresholds), np.array(edges))


def _reweight(
    weights: NDArray[np.float64],
    similar: NDArray[np.float64],
    bits: NDArray[np.bool_],
    pairs: Pairs,
    edge: float,
) -> NDArray[np.float64]:
    vote = np.arctanh(np.clip(edge, 0, MAX_EDGE))
    predicted = np.where(bits[pairs[:, 0]] == bits[pairs[:, 1]], 1, -1)
    changed: NDArray[np.float64] = weights * np.exp(-vote * similar * predicted)
    changed /= changed.sum()
    return changed
