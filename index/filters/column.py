"""A field of payloads as a column: its distinct values in order, and each row as a place there.

A condition is looked up among the distinct values, not item by item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from index.filters.blocks import Block
from index.filters.values import Test
from index.memory.segment import Segment
from index.memory.view import Mask, View

# Bytes that a column takes in addition to its arrays and values.
_PER_COLUMN = 4096
# If a column has more blocks, all but the first are joined into one.
_MAX_BLOCKS = 32


@dataclass(frozen=True)
class Column:
    """The values of one field, for the first rows of a view or for all of them.

    Attributes
    ----------
    segment : weak reference to a Segment
        Weak, so that the column does not keep its codes and tables in memory. If the column is of
        no view, a function that returns None.
    blocks : tuple of Block
        The values of the rows, in their order.
    serials : (n,)
        Serial numbers of the rows of the segment.
    tail : (t,)
        Serial numbers of the rows after them.
    """

    segment: Callable[[], Segment | None]
    blocks: tuple[Block, ...]
    serials: NDArray[np.integer]
    tail: NDArray[np.int64]

    @classmethod
    def of(cls, view: View, blocks: Sequence[Block]) -> Column:
        """Return a column of the first rows of a view."""
        return cls(ref(view.segment), _few(blocks), view.segment.serials, view.tail_serials)

    def longer_tail(self, serials: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the tail, as far as its rows are there, with more serial numbers after it."""
        return np.concatenate([self.tail[: len(self) - len(self.serials)], serials])

    def with_more(self, tail: NDArray[np.int64], block: Block) -> Column:
        """Return a column of no view, for those of views to be made from.

        It also has the rows of a block. `tail` is the `longer_tail` that has them.
        """
        return Column(lambda: None, _few([*self.blocks, block]), self.serials, tail)

    @property
    def rows_key(self) -> tuple[int, ...]:
        """What is equal only for columns with the same rows, while both exist."""
        return id(self.serials), id(self.tail), len(self)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._n_rows

    @cached_property
    def _n_rows(self) -> int:
        return sum(map(len, self.blocks))

    @cached_property
    def nbytes(self) -> int:
        """Memory that the column occupies, with the serial numbers that it shares with others."""
        arrays = self.serials.nbytes + self.tail.nbytes
        return _PER_COLUMN + arrays + sum(block.nbytes for block in self.blocks)

    def is_of(self, view: View) -> bool:
        """Return whether the rows are the first ones of this view."""
        return self.segment() is view.segment

    @property
    def is_partial(self) -> bool:
        """Whether rows of the segment are lacking."""
        return len(self) < len(self.serials)

    def covers(self, view: View) -> bool:
        """Return whether all rows of the view are among the rows of the column, as the first."""
        return self.is_of(view) and len(self) >= view.n_rows

    def n_unread(self, view: View) -> int:
        """Return of how many rows of a view the payloads have to be read, or slightly more."""
        if self.is_of(view):
            return max(0, view.n_rows - len(self))
        if self.is_partial:
            return view.n_rows
        # Serial numbers are given in the order of insertion.
        return max(0, _newest(view.segment.serials, view.tail_serials) - self._newest)

    @cached_property
    def _newest(self) -> int:
        return int(self.known_serials().max(initial=-1))

    def known_serials(self) -> NDArray[np.int64]:
        """Return the serial numbers of the rows."""
        return np.concatenate([self.serials.astype(np.int64), self.tail])[: len(self)]

    def meeting(self, test: Test) -> Mask:
        """Return a mask of the rows that meet a condition."""
        # Without rows there are no blocks.
        return np.concatenate([np.empty(0, bool), *(block.meeting(test) for block in self.blocks)])


def _few(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return the same rows in at most `_MAX_BLOCKS` blocks."""
    if len(blocks) > _MAX_BLOCKS:
        blocks = [blocks[0], Block.join(blocks[1:])]
    return tuple(blocks)


def _newest(serials: NDArray[np.integer], tail: NDArray[np.int64]) -> int:
    if len(tail):
        return int(tail[-1])
    return int(serials.max()) if len(serials) else -1
