"""Conditions on label and payload, as JSON, and the rows of a view for which they hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import reduce
from operator import and_, or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidItems
from index.filters.columns import Columns, Mask, Test
from index.memory.batch import NO_LABEL
from index.memory.view import View

MAX_DEPTH = 8
MAX_CONDITIONS = 64
MAX_VALUES = 1000
_FIELD = re.compile(r"[^\x00-\x1f.]{1,64}(\.[^\x00-\x1f.]{1,64}){0,7}")
_COMPARE = {"gt": np.greater, "gte": np.greater_equal, "lt": np.less, "lte": np.less_equal}

Leaf = Callable[[View, Columns], Mask]


class Filter:
    """A condition that items of a search have to meet.

    An object of fields, all of which have to match: `label`, or a field of the payload, with dots
    between the names of nested objects. What stands at a field is a value that it equals, or
    `{"in": [values]}`, or bounds among `gt`, `gte`, `lt`, `lte`. `{"and": [filters]}`,
    `{"or": [filters]}` and `{"not": filter}` combine. A number equals no string and no boolean; a
    field that is not there meets no condition, so `not` of any condition holds for it.

    Parameters
    ----------
    condition : object as JSON has it

    Raises
    ------
    InvalidItems
        It is none, or is larger than 64 conditions, 8 levels or 1,000 values.
    """

    def __init__(self, condition: Any) -> None:
        self._conditions = self._values = 0
        self._leaf = self._parse(condition, 1)

    def mask(self, view: View, columns: Columns) -> Mask:
        """Which rows of a view meet it, (rows,); of dead rows it says nothing."""
        return self._leaf(view, columns)

    def _parse(self, condition: Any, depth: int) -> Leaf:
        if depth > MAX_DEPTH:
            raise InvalidItems(f"a filter has at most {MAX_DEPTH} levels")
        if not isinstance(condition, dict) or not condition:
            raise InvalidItems(
                f"expected a filter, an object with at least one field, got {condition!r:.60}"
            )
        return _all([self._one(key, value, depth) for key, value in condition.items()])

    def _one(self, key: str, value: Any, depth: int) -> Leaf:
        if key in ("and", "or"):
            if not isinstance(value, list) or not value:
                raise InvalidItems(f"expected a list of filters under {key!r}, got {value!r:.60}")
            parts = [self._parse(part, depth + 1) for part in value]
            return _all(parts) if key == "and" else _any(parts)
        if key == "not":
            inner = self._parse(value, depth + 1)
            return lambda view, columns: ~inner(view, columns)
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise InvalidItems(f"a filter has at most {MAX_CONDITIONS} conditions")
        if not isinstance(key, str) or not _FIELD.fullmatch(key):
            raise InvalidItems(
                "a field is up to 8 names with dots between them, each of 1 to 64 characters; "
                f"got {key!r:.80}"
            )
        test = self._test(key, value)
        if key == "label":
            return lambda view, _: _on_labels(test, view.labels())
        return lambda view, columns: columns.meeting(key, test, view)

    def _test(self, key: str, value: Any) -> Test:
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
        self._values += len(values)
        if self._values > MAX_VALUES:
            raise InvalidItems(f"a filter has at most {MAX_VALUES} values")
        for value in values:
            if not (value is None or isinstance(value, str | int | float)):
                raise InvalidItems(f"a value of {key!r} is a scalar, got {value!r:.60}")
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise InvalidItems(f"a value of {key!r} does not fit into 64 bits: {value}")
            if isinstance(value, float) and not np.isfinite(value):
                raise InvalidItems(f"a value of {key!r} is no finite number")
            if key == "label" and (isinstance(value, bool) or not isinstance(value, int)):
                raise InvalidItems(f"a label is an integer, got {value!r:.60}")
        return values


def _on_labels(test: Test, labels: NDArray[np.int64]) -> Mask:
    mask: Mask = labels != NO_LABEL
    if not test.bounds:
        mask &= np.isin(labels, np.array(test.values, np.int64))
    for name, bound in test.bounds.items():
        mask &= _COMPARE[name](labels, bound)
    return mask


def _all(parts: list[Leaf]) -> Leaf:
    return lambda view, columns: reduce(and_, [part(view, columns) for part in parts])


def _any(parts: list[Leaf]) -> Leaf:
    return lambda view, columns: reduce(or_, [part(view, columns) for part in parts])
