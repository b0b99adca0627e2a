"""Items as columns, the form in which they are read, written and joined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words
from index.memory.ids import gather

NO_LABEL = -1


@dataclass(frozen=True)
class Batch:
    """n items as columns.

    Attributes
    ----------
    data : bytes
        The ids in UTF-8, one after the other.
    lengths : (n,)
        The length of each id in bytes.
    words : (n, words) uint64
        The codes.
    labels : (n,)
        `NO_LABEL` for none.
    serials : (n,)
        The serial numbers in the record; empty before the record has given them.
    """

    data: bytes
    lengths: NDArray[np.int64]
    words: Words
    labels: NDArray[np.int64]
    serials: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def join(cls, parts: list[Batch], width: int) -> Batch:
        """Return the items of all parts, whose codes have `width` words, in their order."""
        none = np.empty(0, np.int64)
        return cls(
            b"".join(part.data for part in parts),
            np.concatenate([none, *(part.lengths for part in parts)]),
            np.concatenate([np.empty((0, width), np.uint64), *(part.words for part in parts)]),
            np.concatenate([none, *(part.labels for part in parts)]),
            np.concatenate([none, *(part.serials for part in parts)]),
        )

    def between(self, start: int, end: int) -> Batch:
        """Return the items from place `start` up to, not including, place `end`."""
        before = int(self.lengths[:start].sum())
        lengths = self.lengths[start:end]
        return Batch(
            self.data[before : before + int(lengths.sum())],
            lengths,
            self.words[start:end],
            self.labels[start:end],
            self.serials[start:end],
        )

    def without(self, serials: NDArray[np.int64]) -> Batch:
        """Return the items without those that have one of these serial numbers."""
        if not len(serials):
            return self
        keep = np.flatnonzero(~np.isin(self.serials, serials))
        starts = np.cumsum(self.lengths) - self.lengths
        return Batch(
            gather(self.data, starts[keep], self.lengths[keep]),
            self.lengths[keep],
            self.words[keep],
            self.labels[keep],
            self.serials[keep],
        )
