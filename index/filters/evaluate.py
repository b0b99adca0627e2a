"""The rows of a view that meet a filter: its tree, compiled to functions over columns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, reduce
from operator import and_, or_

import numpy as np
from numpy.typing import NDArray

from index.callbacks import Checkpoint
from index.filters.blocks import Block
from index.filters.column import Column
from index.filters.columns import Columns, NoRoom
from index.filters.fields import Field
from index.filters.filter import Filter
from index.filters.tree import And, Node, Not, OnField, OnId, OnLabel, Or
from index.filters.values import Test
from index.memory.batch import NO_LABEL
from index.memory.view import Mask, View

# A filter with more values takes more than some milliseconds by itself.
_FEW_VALUES = 2000
_COMPARE = {"gt": np.greater, "gte": np.greater_equal, "lt": np.less, "lte": np.less_equal}

log = logging.getLogger("bitcell")


def is_ready(where: Filter, view: View, columns: Columns) -> bool:
    """Return whether `mask` takes little time: it has to read few payloads, or none."""
    return where.n_values <= _FEW_VALUES and columns.are_ready(where.fields, view)


def mask(
    where: Filter, view: View, columns: Columns, checkpoint: Checkpoint = lambda: None
) -> Mask:
    """Return a mask of the rows of a view that match, (rows,). Dead rows may match or not.

    `checkpoint` is called between the steps of long work and may raise to give up.
    """
    try:
        found = columns.find(where.fields, view, checkpoint)
    except NoRoom:
        log.warning(
            "the %s fields of a filter do not fit into the memory for columns, so that every "
            "query with it reads all payloads",
            len(where.fields),
        )
        with columns.reading(checkpoint):
            return mask_of(where, view, np.arange(view.n_rows), columns, checkpoint)
    return _compiled(where.tree)(_Rows(view, None, found, checkpoint))


def mask_of(
    where: Filter,
    view: View,
    rows: NDArray[np.int64],
    columns: Columns,
    checkpoint: Checkpoint = lambda: None,
) -> Mask:
    """Return a mask as `mask` does, but only of some rows, whose payloads are all read."""
    parts: Iterator[tuple[NDArray[np.int64], Mapping[Field, Block]]] = iter([(rows, {})])
    if where.fields:
        parts = columns.read_once(where.fields, view, rows, checkpoint)
    predicate = _compiled(where.tree)
    found = [predicate(_Rows(view, part, blocks, checkpoint)) for part, blocks in parts]
    return np.concatenate([np.empty(0, bool), *found])


class _Rows:
    """Rows of a view, all of them or some, with the columns of a filter."""

    def __init__(
        self,
        view: View,
        rows: NDArray[np.int64] | None,
        columns: Mapping[Field, Block | Column],
        checkpoint: Checkpoint,
    ) -> None:
        self._view, self._rows, self._columns = view, rows, columns
        self._n = view.n_rows if rows is None else len(rows)
        self._checkpoint = checkpoint

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return self._view.labels(self._rows)

    def having(self, ids: frozenset[str]) -> Mask:
        """Return a mask of the rows that have one of some ids."""
        self._checkpoint()
        return self._view.having(ids, self._rows)

    def meeting(self, field: Field, test: Test) -> Mask:
        """Return a mask of the rows in which a field of the payload meets a condition."""
        self._checkpoint()
        return self._columns[field].meeting(test)[: self._n]


Predicate = Callable[[_Rows], Mask]


def _compiled(node: Node) -> Predicate:
    """Return what tells which rows meet a condition."""
    match node:
        case And(parts):
            return _reduced(and_, parts)
        case Or(parts):
            return _reduced(or_, parts)
        case Not(part):
            inner = _compiled(part)
            return lambda rows: ~inner(rows)
        case OnId(ids):
            return lambda rows: rows.having(ids)
        case OnLabel(test):
            return _on_label(test)
        case OnField(field, test):
            return lambda rows: rows.meeting(field, test)


def _reduced(combine: Callable[[Mask, Mask], Mask], parts: Sequence[Node]) -> Predicate:
    predicates = [_compiled(part) for part in parts]
    # One after the other: 64 masks at once would take 64 bytes a row.
    return lambda rows: reduce(combine, (predicate(rows) for predicate in predicates))


def _on_label(test: Test) -> Predicate:
    wanted = np.unique(np.array(test.values, np.int64))

    def meeting(rows: _Rows) -> Mask:
        labels = rows.labels
        mask: Mask = labels != NO_LABEL
        if not test.bounds:
            # `isin` sorts the values again, which takes long if there are more of them than labels.
            if len(wanted) <= len(labels):
                mask &= np.isin(labels, wanted)
            else:
                place = np.searchsorted(wanted, labels)
                place[place == len(wanted)] = 0
                mask &= wanted[place] == labels
        for name, bound in test.bounds.items():
            mask &= _COMPARE[name](labels, bound)
        return mask

    return meeting
