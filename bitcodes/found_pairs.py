"""The pairs of near codes found so far, and the groups that they make."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words
from bitcodes.components import Components
from bitcodes.ragged import Integers

# Edges that are collected before the components are joined.
_FEW_EDGES = 1 << 16
_FEW_PAIRS = 1 << 12


class NearCodes(NamedTuple):
    """What `near_codes` found.

    Attributes
    ----------
    a, b : (p,) uint32
        Pairs of places in the codes.
    root : (n,) int64
        For each code the first code of its group.
    truncated : bool
        There are more pairs than the limit. The groups are complete all the same.
    """

    a: NDArray[np.uint32]
    b: NDArray[np.uint32]
    root: Integers
    truncated: bool


class FoundPairs:
    """The pairs found so far, and the groups that they make.

    Attributes
    ----------
    columns : (words, n) uint64
        The codes, a row per word: the words of many codes are then read one after the other.
    radius : int
        Largest distance of a pair.
    truncated : bool
        There are more pairs than the limit. From then on only pairs that connect groups count.
    version : int
        Another one whenever `root` has changed.
    """

    def __init__(self, words: Words, counts: Integers, radius: int, limit: int) -> None:
        self.columns = np.ascontiguousarray(words.T)
        self.radius = radius
        self._counts, self._left = counts, limit
        self._components = Components(len(words))
        self._n = 0
        self._pairs = np.empty((2, _FEW_PAIRS), np.uint32)
        self._edges: list[tuple[Integers, Integers]] = []
        self._n_edges = 0
        self.truncated = limit < 0
        self.version = 0

    @property
    def root(self) -> Integers:
        """For each code the first of those that it is known to be connected with."""
        return self._components.root

    def add(self, a: Integers, b: Integers) -> None:
        """Add pairs of which none was added before."""
        self._edges.append((a, b))
        self._n_edges += len(a)
        if self._n_edges > max(_FEW_EDGES, len(self.root) // 4) or len(self._edges) > _FEW_EDGES:
            self._join()
        if self.truncated:
            return
        end = self._n + len(a)
        if end > self._pairs.shape[1]:
            larger = np.empty((2, end + end // 2), np.uint32)
            larger[:, : self._n] = self._pairs[:, : self._n]
            self._pairs = larger
        self._pairs[:, self._n : end] = a, b
        self._n = end
        self._left -= int((self._counts[a] * self._counts[b]).sum())
        self.truncated = self._left < 0

    def _join(self) -> None:
        if self._edges:
            self.version += 1
            self._components.join(
                *(np.concatenate(ends) for ends in zip(*self._edges, strict=True))
            )
        self._edges, self._n_edges = [], 0

    def result(self) -> NearCodes:
        """Return all pairs and groups."""
        self._join()
        a, b = self._pairs[:, : self._n]
        return NearCodes(a, b, self.root, self.truncated)
