"""Which items to label next: an ε-net of what has no label, boundary points first.

The rule
--------
The half of the unlabelled items with the most distant neighbours is left out: outliers. Of the
others, farthest-first traversal, which starts from the labelled items, takes a net of items that
are far from every label and from each other (`hashing.theory.covering`). Of the net, those come
first that are about as near to labelled items of two classes: there a label decides most, because
training acts on the boundary (`hashing.theory.training`).

Where it stops
--------------
A few labels draw a rough boundary. The rule is often no better than labels at random, and worse
where many items have labels already: measure it (`bitcell label-next` does). Without leaving
outliers out, it was worse than random on GIST descriptors of natural images.

Source
------
O. Sener, S. Savarese, "Active learning for convolutional neural networks: a core-set approach",
ICLR 2018, for the net; Giryes, Sapiro, Bronstein 2016, for net and boundary.
Deviation: leaving outliers out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashing.arrays import Float64Array
from hashing.theory.covering import farthest_first
from hashing.theory.samples import Indices, checked, sample, squared_distances
from hashing.validation import InvalidInput, as_labels, check_int

LAW = "the choice of labels"
OVERSAMPLING = 4
"""The net has this many times as many items as are asked for."""
# An item is an outlier if it is far from its neighbour of this rank, among this many items.
_NEIGHBOUR = 10
_REFERENCE = 5000


def label_next(X: ArrayLike, y: ArrayLike | None, n: int) -> Indices:
    """Return the positions of n items without a label, those to label first in front.

    Parameters
    ----------
    X : (N, d) array_like
    y : (N,) array_like of int, optional
        Labels, -1 for none. With fewer than two classes, there is no boundary, and the order is
        that of the net.
    n : int
        At least 1; at most the number of items without a label.

    Raises
    ------
    InvalidInput
        There are fewer items without a label; or fewer than n of them that differ from each other
        and from the labelled ones.
    """
    X = checked(X, 1, LAW)
    labels = np.full(len(X), -1) if y is None else as_labels(y, len(X))
    labelled, free = np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0)
    check_int("n", n, 1, len(X))
    if len(free) < n:
        raise InvalidInput(
            f"{LAW} needs at least {n} items without a label, got {len(free)} of {len(X)}"
        )
    net = _net(X, labelled, _dense_half(X, free, n), n)
    if len(net) < n:
        net = _net(X, labelled, free, n)
    if len(net) < n:
        raise InvalidInput(
            f"{LAW} needs at least {n} descriptors that differ from each other and from the "
            f"labelled ones, got {len(net)}"
        )
    if len(np.unique(labels[labelled])) < 2:
        return net[:n]
    order = np.argsort(-closeness(X[net], X[labelled], labels[labelled]), kind="stable")
    return net[order[:n]]


def _dense_half(X: Float64Array, free: Indices, n: int) -> Indices:
    """Return the half of the unlabelled items, or n of them, with the nearest neighbours."""
    reference = X[sample(len(X), _REFERENCE, 0)]
    centre = reference.mean(axis=0)
    k = min(_NEIGHBOUR, len(reference) - 1)
    spread = np.empty(len(free))
    for rows, block in squared_distances(X[free] - centre, reference - centre):
        spread[rows] = np.partition(block, k, axis=1)[:, k]
    return np.sort(free[np.argsort(spread, kind="stable")[: max(len(free) // 2, n)]])


def _net(X: Float64Array, labelled: Indices, candidates: Indices, n: int) -> Indices:
    """Return up to OVERSAMPLING times n of the candidates, far from labels and each other."""
    chosen = np.concatenate([labelled, candidates])
    size = min(OVERSAMPLING * n, len(candidates))
    net, _ = farthest_first(X[chosen], size, np.arange(len(labelled)))
    return chosen[net]


def closeness(
    X: Float64Array, labelled: Float64Array, labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how near items are to a boundary of classes: 1 on it, 0 at a labelled item.

    It is the distance to the nearest labelled item, divided by that to the nearest one of another
    class than its.
    """
    found = np.empty(len(X))
    centre = labelled.mean(axis=0)
    for rows, block in squared_distances(X - centre, labelled - centre):
        nearest = block.argmin(axis=1)
        first = block[np.arange(len(block)), nearest]
        second = np.where(labels == labels[nearest][:, None], np.inf, block).min(axis=1)
        found[rows] = np.sqrt(first / np.maximum(second, 1e-300))
    return found
