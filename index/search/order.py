"""The order of rows: by a value, and by id where values are equal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.memory.ids import pack, sort_order
from index.memory.view import View


def by_value_and_id(view: View, values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the order that sorts rows by ascending value, and those of equal value by id.

    Only ids that decide are read: the rows of the segment are in the order of their ids already.
    """
    order = np.lexsort((rows, values))
    in_tail = rows[order] >= len(view.segment)
    if not in_tail.any():
        return order
    values = values[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = values[1:] != values[:-1]
    group = np.cumsum(is_first) - 1
    is_mixed = (np.bincount(group) > 1) & (np.bincount(group, in_tail) > 0)
    tied = np.flatnonzero(is_mixed[group])
    if len(tied):
        by_id = sort_order(*pack(view.names(rows[order[tied]])))
        if by_id is not None:
            tied_again = tied[by_id]
            order[tied] = order[tied_again[np.argsort(group[tied_again], kind="stable")]]
    return order
