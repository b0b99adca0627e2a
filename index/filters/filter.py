"""Filters: conditions on ids, labels and payloads, and the rows of a view that meet them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, reduce
from math import isfinite
from operator import and_, or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.callbacks import Checkpoint
from index.errors import InvalidItems
from index.filters.blocks import Block
from index.filters.column import Column
from index.filters.columns import Columns, NoRoom
from index.filters.fields import Field, parse_field
from index.filters.values import Test
from index.memory.batch import NO_LABEL
from index.memory.view import Mask, View

MAX_DEPTH = 8
MAX_CONDITIONS = 64
MAX_VALUES = 100_000
# A filter with more values takes more than some milliseconds by itself.
_FEW_VALUES = 2000
_COMPARE = {"gt": np.greater, "gte": np.greater_equal, "lt": np.less, "lte": np.less_equal}

log = logging.getLogger("bitcell")


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


class Filter:
    """A condition on items, parsed from JSON.

    A filter is an object whose fields must all match. The key of a field is `id`, `label`, or the
    name of a field of the payload, with dots before the names of nested fields; with a dot at the
    beginning it is always a field of the payload (see `parse_field`). Its value has one of these
    forms: a value that the field must equal; `{"in": [values]}`; bounds, which are one or more of
    `gt`, `gte`, `lt` and `lte`; and for fields that hold lists `{"contains": value}`,
    `{"any": [values]}` or `{"all": [values]}`.
    `{"and": [filters]}`, `{"or": [filters]}` and `{"not": filter}` combine filters.

    Numbers never equal strings or booleans. A missing field meets no condition, so `not` of
    any condition on it is met. The same holds for a list where a value is expected, and for
    anything else where a list is.

    Parameters
    ----------
    condition : object
        The filter as parsed JSON.

    Raises
    ------
    InvalidItems
        The condition is not a filter, or has more than 64 conditions, 8 levels or 100,000 values.
    """

    def __init__(self, condition: Any) -> None:
        self._n_conditions = self._n_values = 0
        # The fields of payloads, each once.
        self._fields: dict[Field, None] = {}
        self._predicate = self._parse(condition, 1)

    def is_ready(self, view: View, columns: Columns) -> bool:
        """Return whether `mask` takes little time: it has to read few payloads, or none."""
        return self._n_values <= _FEW_VALUES and columns.are_ready(self._fields, view)

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
            with columns.reading(checkpoint):
                return self.mask_of(view, np.arange(view.n_rows), columns, checkpoint)
        return self._predicate(_Rows(view, None, found, checkpoint))

    def mask_of(
        self,
        view: View,
        rows: NDArray[np.int64],
        columns: Columns,
        checkpoint: Checkpoint = lambda: None,
    ) -> Mask:
        """Return a mask as `mask` does, but only of some rows, whose payloads are all read."""
        parts: Iterator[tuple[NDArray[np.int64], Mapping[Field, Block]]] = iter([(rows, {})])
        if self._fields:
            parts = columns.read_once(self._fields, view, rows, checkpoint)
        found = [self._predicate(_Rows(view, part, blocks, checkpoint)) for part, blocks in parts]
        return np.concatenate([np.empty(0, bool), *found])

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
        if key == "id":
            return self._parse_ids(value)
        if key == "label":
            return self._parse_labels(value)
        names = parse_field(key)
        test, is_list = self._parse_test(key, value)
        field = Field(names, is_list)
        self._fields[field] = None
        return lambda rows: rows.meeting(field, test)

    def _parse_ids(self, value: Any) -> Predicate:
        values = value["in"] if isinstance(value, dict) and set(value) == {"in"} else [value]
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise InvalidItems(
                "an id is a string: expected one, or {'in': [ids]}, for 'id'; a field 'id' of the "
                f"payload is '.id'; got {value!r:.60}"
            )
        ids = frozenset(self._checked(values, "id"))
        return lambda rows: rows.having(ids)

    def _parse_labels(self, value: Any) -> Predicate:
        test, is_list = self._parse_test("label", value)
        values = (*test.values, *test.bounds.values())
        if is_list or any(isinstance(each, bool) or not isinstance(each, int) for each in values):
            raise InvalidItems(
                "a label is an integer, and a field 'label' of the payload is '.label'; got "
                f"{value!r:.60}"
            )
        wanted = np.unique(np.array(test.values, np.int64))
        return lambda rows: _labels_meeting(wanted, test.bounds, rows.labels)

    def _parse_test(self, key: str, value: Any) -> tuple[Test, bool]:
        """Return a condition, and whether it is one on lists."""
        if not isinstance(value, dict):
            return Test(self._checked([value], key)), False
        if set(value) == {"contains"}:
            return Test(self._checked([value["contains"]], key)), True
        for name in ("in", "any", "all"):
            if set(value) == {name} and isinstance(value[name], list):
                return Test(self._checked(value[name], key), every=name == "all"), name != "in"
        if value and set(value) <= set(_COMPARE):
            for bound in self._checked(list(value.values()), key):
                if isinstance(bound, bool) or bound is None:
                    raise InvalidItems(f"a bound of {key!r} is a number or a string, got {bound}")
            return Test([], value), False
        raise InvalidItems(
            f"expected a value for {key!r}, bounds among {', '.join(_COMPARE)}, or one of "
            "{'in': [values]}, {'contains': value}, {'any': [values]} and {'all': [values]}; got "
            f"{value!r:.60}"
        )

    def _checked(self, values: list[Any], key: str) -> list[Any]:
        self._n_values += len(values)
        if self._n_values > MAX_VALUES:
            raise InvalidItems(f"a filter has at most {MAX_VALUES} values")
        for value in values:
            if isinstance(value, str) or value is None:
                continue
            if not isinstance(value, int | float):
                raise InvalidItems(
                    f"a value of {key!r} is a string, number, boolean or null, got {value!r:.60}"
                )
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise InvalidItems(f"a value of {key!r} must fit into 64 bits, got {value}")
            if isinstance(value, float) and not isfinite(value):
                raise InvalidItems(f"a value of {key!r} must be finite, got {value}")
        return values


def _labels_meeting(
    values: NDArray[np.int64], bounds: Mapping[str, Any], labels: NDArray[np.int64]
) -> Mask:
    mask: Mask = labels != NO_LABEL
    if not bounds:
        # `isin` sorts the values again, which takes long if there are more of them than labels.
        if len(values) <= len(labels):
            mask &= np.isin(labels, values)
        else:
            place = np.searchsorted(values, labels)
            place[place == len(values)] = 0
            mask &= values[place] == labels
    for name, bound in bounds.items():
        mask &= _COMPARE[name](labels, bound)
    return mask


def _all(parts: list[Predicate]) -> Predicate:
    # One after the other: 64 masks at once would take 64 bytes a row.
    return lambda rows: reduce(and_, (part(rows) for part in parts))


def _any(parts: list[Predicate]) -> Predicate:
    return lambda rows: reduce(or_, (part(rows) for part in parts))
