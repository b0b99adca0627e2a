"""Filters: conditions on labels and payloads, and the rows of a view that meet them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import cached_property, reduce
from operator import and_, or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.callbacks import Checkpoint
from index.errors import InvalidItems
from index.filters.column import Block, Column, Test
from index.filters.columns import Columns, NoRoom
from index.memory.batch import NO_LABEL
from index.memory.view import Mask, View

MAX_DEPTH = 8
MAX_CONDITIONS = 64
MAX_VALUES = 1000
_FIELD = re.compile(r"[^\x00-\x1f.]{1,64}(\.[^\x00-\x1f.]{1,64}){0,7}")
_COMPARE = {"gt": np.greater, "gte": np.greater_equal, "lt": np.less, "lte": np.less_equal}

log = logging.getLogger("bitcell")


class _Rows:
    """Rows of a view, all of them or those at some places, with the columns of a filter."""

    def __init__(
        self,
        view: View,
        places: NDArray[np.int64] | None,
        columns: Mapping[str, Block | Column],
        checkpoint: Checkpoint,
    ) -> None:
        self._view, self._places, self._columns = view, places, columns
        self._n = view.n_rows if places is None else len(places)
        self._checkpoint = checkpoint

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return self._view.labels(self._places)

    def meeting(self, field: str, test: Test) -> Mask:
        """Return a mask of the rows in which a field of the payload meets a condition."""
        self._checkpoint()
        return self._columns[field].meeting(test)[: self._n]


Predicate = Callable[[_Rows], Mask]


class Filter:
    """A condition on items, parsed from JSON.

    A filter is an object whose fields must all match. The key of a field is `label`, or the name of
    a field of the payload, with dots before the names of nested fields. It has one of
    three forms: a value that the field must equal; `{"in": [values]}`; or bounds, which are one
    or more of `gt`, `gte`, `lt` and `lte`.
    `{"and": [filters]}`, `{"or": [filters]}` and `{"not": filter}` combine filters.

    Numbers never equal strings or booleans. A missing field meets no condition, so `not` of
    any condition on it is met.

    Parameters
    ----------
    condition : object
        The filter as parsed JSON.

    Raises
    ------
    InvalidItems
        The condition is not a filter, or has more than 64 conditions, 8 levels or 1,000 values.
    """

    def __init__(self, condition: Any) -> None:
        self._n_conditions = self._n_values = 0
        # The fields of payloads, each once.
        self._fields: dict[str, None] = {}
        self._predicate = self._parse(condition, 1)

    def is_ready(self, view: View, columns: Columns) -> bool:
        """Return whether `mask` takes little time: it has to read few payloads, or none."""
        return columns.are_ready(self._fields, view)

    def mask(self, view: View, columns: Columns, checkpoint: Checkpoint = lambda: None) -> Mask:
        """Return a mask of the rows of a view that match, (rows,). Dead rows may match or not.

        `checkpoint` is called between the steps of long work and may raise to give up.
        """
        try:
            found = columns.find(self._fields, view, checkpoint)
        except NoRoom:
            log.warning(
                "the %s fields of a filter do not fit into the memory for columns, so that every "
                "query with it reads all payloads",
                len(self._fields),
            )
            parts = [
                self._predicate(_Rows(view, places, blocks, checkpoint))
                for places, blocks in columns.read_once(self._fields, view, checkpoint)
            ]
            return np.concatenate([np.empty(0, bool), *parts])
        return self._predicate(_Rows(view, None, found, checkpoint))

    def _parse(self, condition: Any, depth: int) -> Predicate:
        if depth > MAX_DEPTH:
            raise InvalidItems(f"a filter has at most {MAX_DEPTH} levels")
        if not isinstance(condition, dict) or not condition:
            raise InvalidItems(
                f"expected a filter, an object with at least one field, got {condition!r:.60}"
            )
        return _all([self._parse_field(key, value, depth) for key, value in condition.items()])

    def _parse_field(self, key: str, value: Any, depth: int) -> Predicate:
        if key in ("and", "or"):
            if not isinstance(value, list) or not value:
                raise InvalidItems(f"expected a list of filters under {key!r}, got {value!r:.60}")
            parts = [self._parse(part, depth + 1) for part in value]
            return _all(parts) if key == "and" else _any(parts)
        if key == "not":
            inner = self._parse(value, depth + 1)
            return lambda rows: ~inner(rows)
        self._n_conditions += 1
        if self._n_conditions > MAX_CONDITIONS:
            raise InvalidItems(f"a filter has at most {MAX_CONDITIONS} conditions")
        if not isinstance(key, str) or not _FIELD.fullmatch(key):
            raise InvalidItems(
                "a field is up to 8 names with dots between them, each of 1 to 64 characters; "
                f"got {key!r:.80}"
            )
        test = self._parse_test(key, value)
        if key == "label":
            return lambda rows: _labels_meeting(test, rows.labels)
        self._fields[key] = None
        return lambda rows: rows.meeting(key, test)

    def _parse_test(self, key: str, value: Any) -> Test:
        if not isinstance(value, dict):
            return Test(self._checked([value], key), {})
        if set(value) == {"in"} and isinstance(value["in"], list):
            return Test(self._checked(value["in"], key), {})
        if value and set(value) <= set(_COMPARE):
            for bound in self._checked(list(value.values()), key):
                if isinstance(bound, bool) or bound is None:
                    raise InvalidItems(f"a bound of {key!r} is a number or a string, got {bound}")
            return Test([], value)
        raise InvalidItems(
            f"expected a value for {key!r}, {{'in': [values]}}, or bounds among "
            f"{', '.join(_COMPARE)}; got {value!r:.60}"
        )

    def _checked(self, values: list[Any], key: str) -> list[Any]:
        self._n_values += len(values)
        if self._n_values > MAX_VALUES:
            raise InvalidItems(f"a filter has at most {MAX_VALUES} values")
        for value in values:
            if not (value is None or isinstance(value, str | int | float)):
                raise InvalidItems(
                    f"a value of {key!r} is a string, number, boolean or null, got {value!r:.60}"
                )
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise InvalidItems(f"a value of {key!r} must fit into 64 bits, got {value}")
            if isinstance(value, float) and not np.isfinite(value):
                raise InvalidItems(f"a value of {key!r} must be finite, got {value}")
            if key == "label" and (isinstance(value, bool) or not isinstance(value, int)):
                raise InvalidItems(f"a label is an integer, got {value!r:.60}")
        return values


def _labels_meeting(test: Test, labels: NDArray[np.int64]) -> Mask:
    mask: Mask = labels != NO_LABEL
    if not test.bounds:
        mask &= np.isin(labels, np.array(test.values, np.int64))
    for name, bound in test.bounds.items():
        mask &= _COMPARE[name](labels, bound)
    return mask


def _all(parts: list[Predicate]) -> Predicate:
    # One after the other: 64 masks at once would take 64 bytes a row.
    return lambda rows: reduce(and_, (part(rows) for part in parts))


def _any(parts: list[Predicate]) -> Predicate:
    return lambda rows: reduce(or_, (part(rows) for part in parts))
