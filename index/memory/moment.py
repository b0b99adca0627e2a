"""The items of one moment, for measurements on samples of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words
from index.memory.view import View


class Moment:
    """The items that a collection holds at one moment, numbered from 0 in order of insertion.

    Later writes do not change it: what it shows stays readable until it is deleted itself. The
    numbers are the same after a restart, so that samples with a seed are, too.

    Attributes
    ----------
    labels : (n,)
        -1 for none.
    serials : (n,)
        Ascending; an item that is written again gets a new, larger one.
    """

    def __init__(
        self,
        view: View,
        rows: NDArray[np.int64],
        descriptors: Callable[[View, NDArray[np.int64]], NDArray[Any]],
    ) -> None:
        serials = view.serials(rows)
        order = np.argsort(serials, kind="stable")
        self._view, self._rows, self._descriptors = view, rows[order], descriptors
        self.serials = serials[order]
        self.labels = view.labels(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def words(self, places: NDArray[np.integer]) -> Words:
        """Return the codes of items as 64-bit words."""
        return self._view.words(self._rows[places])

    def descriptors(self, places: NDArray[np.integer]) -> NDArray[Any]:
        """Return the descriptors of items; raise InvalidItems if the collection keeps none."""
        return self._descriptors(self._view, self._rows[places])
