"""Conditions on label and payload, as JSON, and the rows of a view for which they hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.database import Database
from index.errors import InvalidItems
from index.view import View

MAX_DEPTH = 8
MAX_CONDITIONS = 64
MAX_VALUES = 1000
_FIELD = re.compile(r'[^\x00-\x1f"\\.]{1,64}(\.[^\x00-\x1f"\\.]{1,64}){0,7}')
_RANGES = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

Mask = NDArray[np.bool_]
Leaf = Callable[["_Rows"], Mask]


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

    def mask(self, view: View, database: Database, key: int) -> Mask:
        """Which rows of a view meet it, (rows,); of dead rows it says nothing."""
        return self._leaf(_Rows(view, database, key))

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
            return lambda rows: ~inner(rows)
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise InvalidItems(f"a filter has at most {MAX_CONDITIONS} conditions")
        if not isinstance(key, str) or not _FIELD.fullmatch(key):
            raise InvalidItems(
                "a field is up to 8 names with dots between them, each of 1 to 64 characters, no "
                f"quotes or backslashes among them; got {key!r:.80}"
            )
        test = self._test(key, value)
        return test.on_labels if key == "label" else test.on_payloads

    def _test(self, key: str, value: Any) -> _Test:
        if not isinstance(value, dict):
            return _Test(key, self._checked([value], key), {})
        if set(value) == {"in"} and isinstance(value["in"], list):
            return _Test(key, self._checked(value["in"], key), {})
        if value and set(value) <= set(_RANGES):
            for bound in self._checked(list(value.values()), key):
                if isinstance(bound, bool) or bound is None:
                    raise InvalidItems(f"a bound of {key!r} is a number or a string, got {bound}")
            return _Test(key, [], value)
        raise InvalidItems(
            f"expected a value for {key!r}, {{'in': [values]}}, or bounds among "
            f"{', '.join(_RANGES)}; got {value!r:.60}"
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


@dataclass(frozen=True)
class _Rows:
    view: View
    database: Database
    key: int


@dataclass(frozen=True)
class _Test:
    """One field: it is one of `values`, or where there are bounds, within them."""

    field: str
    values: list[Any]
    bounds: dict[str, Any]

    def on_labels(self, rows: _Rows) -> Mask:
        labels = rows.view.labels()
        if not self.bounds:
            same: Mask = np.isin(labels, np.array(self.values, np.int64))
            same &= labels != -1
            return same
        mask: Mask = labels != -1
        compare = {"gt": np.greater, "gte": np.greater_equal, "lt": np.less, "lte": np.less_equal}
        for name, bound in self.bounds.items():
            mask &= compare[name](labels, bound)
        return mask

    def on_payloads(self, rows: _Rows) -> Mask:
        """SQLite reads the payloads; what comes from outside is bound, never part of the text."""
        path = "$" + "".join(f'."{name}"' for name in self.field.split("."))
        condition, values = self._sql()
        found = rows.database.read(
            "SELECT serial FROM (SELECT serial, json_extract(payload, ?1) AS v, "  # noqa: S608
            "json_type(payload, ?1) AS t FROM payloads WHERE collection = ?2) "
            f"WHERE {condition}",
            (path, rows.key, *values),
        )
        serials = np.fromiter((serial for (serial,) in found), np.int64, len(found))
        there: Mask = np.isin(rows.view.serials(), serials)
        return there

    def _sql(self) -> tuple[str, list[Any]]:
        parts, values = [], []
        if self.bounds:
            for name, bound in self.bounds.items():
                parts.append(f"({_type(bound)} AND v {_RANGES[name]} ?)")
                values.append(bound)
            return " AND ".join(parts), values
        for kind in ("t = 'text'", "t IN ('integer', 'real')"):
            same = [v for v in self.values if _type(v) == kind]
            if same:
                parts.append(f"({kind} AND v IN ({', '.join('?' * len(same))}))")
                values += same
        parts += [f"({_type(v)})" for v in self.values if v is None or isinstance(v, bool)]
        return " OR ".join(parts) or "0", values


def _type(value: Any) -> str:
    """That the field is of the type of a value."""
    if value is None:
        return "t = 'null'"
    if isinstance(value, bool):
        return f"t = '{str(value).lower()}'"
    return "t = 'text'" if isinstance(value, str) else "t IN ('integer', 'real')"


def _all(parts: list[Leaf]) -> Leaf:
    return lambda rows: reduce(and_, [part(rows) for part in parts])


def _any(parts: list[Leaf]) -> Leaf:
    return lambda rows: reduce(or_, [part(rows) for part in parts])
