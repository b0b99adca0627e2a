"""Thresholds that cut a feature in two, and the pairs of items that each one separates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.parts.pairs import Pairs


class Cuts:
    """Every cut of every feature, weighted by the pairs that it separates.

    A feature of n items can be cut between any two items that are neighbours in its order: cut k
    leaves the k + 1 lowest items on one side. One sweep in that order weights all n - 1 cuts,
    because a pair is separated by the cuts from its lower item up to, but not including, its
    higher item.

    Parameters
    ----------
    values : (n, d) float32
        d features of n items.
    pairs : (p, 2) intp
        Pairs of items.

    Attributes
    ----------
    possible : (d, n - 1) bool
        Whether the two items next to the cut differ. Equal values cannot be cut apart.
    """

    def __init__(self, values: NDArray[np.float32], pairs: Pairs) -> None:
        features = values.T
        order = features.argsort(axis=1, kind="stable")
        self._sorted = np.take_along_axis(features, order, axis=1)
        self.possible = self._sorted[:, :-1] < self._sorted[:, 1:]
        # The smallest type that holds a rank: these d · 2p numbers are most of the memory.
        ranks = order.argsort(axis=1).astype(np.min_scalar_type(len(values)))
        ends = ranks[:, pairs.T]
        self._ends = np.concatenate([ends.min(axis=1), ends.max(axis=1)], axis=1)

    def separated(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """Return the total weight of the pairs that each cut separates; infinite if impossible.

        numpy sums in the order of the pairs, so the result is the same on any number of threads.

        Parameters
        ----------
        weights : (p,)
            One weight per pair, of either sign.

        Returns
        -------
        (d, n - 1) float64
        """
        signed = np.concatenate([weights, -weights])
        n = self._sorted.shape[1]
        steps = np.stack([np.bincount(ends, signed, n) for ends in self._ends])
        return np.where(self.possible, steps.cumsum(axis=1)[:, :-1], np.inf)

    def thresholds(self, features: NDArray[np.intp], cuts: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return thresholds halfway between the items next to the cuts.

        Items with `value > threshold` are on the upper side.
        """
        low, high = self._sorted[features, cuts], self._sorted[features, cuts + 1]
        middle = ((low.astype(np.float64) + high) / 2).astype(np.float32)
        # The middle of two adjacent float32 numbers may round up to the higher one.
        return np.where(middle < high, middle, low)
