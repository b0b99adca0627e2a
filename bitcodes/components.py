"""Connected components of a graph whose edges come in blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Components:
    """The connected components of `n` nodes.

    Attributes
    ----------
    root : (n,) int64
        The smallest node that each node is known to be connected with. Equal roots: the nodes are
        in one component.
    """

    def __init__(self, n: int) -> None:
        self.root: NDArray[np.int64] = np.arange(n)

    def join(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        """Add an edge between each a and b.

        Each round hangs every root below its smallest neighbour and then lets all nodes point to
        their roots, so that the number of roots that still have an edge at least halves.
        """
        root = self.root
        while True:
            a, b = root[a], root[b]
            differ = a != b
            if not differ.any():
                return
            a, b = a[differ], b[differ]
            np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
            while True:
                above = root[root]
                if np.array_equal(above, root):
                    break
                root[:] = above
