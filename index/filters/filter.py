"""Filters: conditions on ids, labels and payloads, parsed from JSON into a tree."""

from __future__ import annotations

from math import isfinite
from types import MappingProxyType
from typing import Any

from index.errors import InvalidItems
from index.filters.fields import Field, parse_field
from index.filters.tree import And, Node, Not, OnField, OnId, OnLabel, Or
from index.filters.values import Test

MAX_DEPTH = 8
MAX_CONDITIONS = 64
MAX_VALUES = 100_000
BOUNDS = ("gt", "gte", "lt", "lte")


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

    Attributes
    ----------
    tree : Node
        What backends compile; see `index.filters.tree`.
    fields : tuple of Field
        The fields of payloads in it, each once.
    n_values : int
        The number of values in it.

    Raises
    ------
    InvalidItems
        The condition is not a filter, or has more than 64 conditions, 8 levels or 100,000 values.
    """

    def __init__(self, condition: Any) -> None:
        parser = _Parser()
        self.tree: Node = parser.parse(condition, 1)
        self.fields: tuple[Field, ...] = tuple(parser.fields)
        self.n_values: int = parser.n_values


class _Parser:
    """Parses one filter, and counts what is limited."""

    def __init__(self) -> None:
        self.n_conditions = self.n_values = 0
        self.fields: dict[Field, None] = {}

    def parse(self, condition: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise InvalidItems(f"a filter has at most {MAX_DEPTH} levels")
        if not isinstance(condition, dict) or not condition:
            raise InvalidItems(
                f"expected a filter, an object with at least one field, got {condition!r:.60}"
            )
        return _and([self._field(key, value, depth) for key, value in condition.items()])

    def _field(self, key: str, value: Any, depth: int) -> Node:
        if key in ("and", "or"):
            if not isinstance(value, list) or not value:
                raise InvalidItems(f"expected a list of filters under {key!r}, got {value!r:.60}")
            parts = [self.parse(part, depth + 1) for part in value]
            return _and(parts) if key == "and" else Or(tuple(parts))
        if key == "not":
            return Not(self.parse(value, depth + 1))
        self.n_conditions += 1
        if self.n_conditions > MAX_CONDITIONS:
            raise InvalidItems(f"a filter has at most {MAX_CONDITIONS} conditions")
        if key == "id":
            return self._ids(value)
        if key == "label":
            return self._label(value)
        names = parse_field(key)
        test, is_list = self._test(key, value)
        field = Field(names, is_list)
        self.fields[field] = None
        return OnField(field, test)

    def _ids(self, value: Any) -> OnId:
        values = value["in"] if isinstance(value, dict) and set(value) == {"in"} else [value]
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise InvalidItems(
                "an id is a string: expected one, or {'in': [ids]}, for 'id'; a field 'id' of the "
                f"payload is '.id'; got {value!r:.60}"
            )
        return OnId(frozenset(self._checked(values, "id")))

    def _label(self, value: Any) -> OnLabel:
        test, is_list = self._test("label", value)
        values = (*test.values, *test.bounds.values())
        if is_list or any(isinstance(each, bool) or not isinstance(each, int) for each in values):
            raise InvalidItems(
                "a label is an integer, and a field 'label' of the payload is '.label'; got "
                f"{value!r:.60}"
            )
        return OnLabel(test)

    def _test(self, key: str, value: Any) -> tuple[Test, bool]:
        """Return a condition, and whether it is one on lists."""
        if not isinstance(value, dict):
            return Test(self._checked([value], key)), False
        if set(value) == {"contains"}:
            return Test(self._checked([value["contains"]], key)), True
        for name in ("in", "any", "all"):
            if set(value) == {name} and isinstance(value[name], list):
                return Test(self._checked(value[name], key), every=name == "all"), name != "in"
        if value and set(value) <= set(BOUNDS):
            for bound in self._checked(list(value.values()), key):
                if isinstance(bound, bool) or bound is None:
                    raise InvalidItems(f"a bound of {key!r} is a number or a string, got {bound}")
            return Test((), MappingProxyType(dict(value))), False
        raise InvalidItems(
            f"expected a value for {key!r}, bounds among {', '.join(BOUNDS)}, or one of "
            "{'in': [values]}, {'contains': value}, {'any': [values]} and {'all': [values]}; got "
            f"{value!r:.60}"
        )

    def _checked(self, values: list[Any], key: str) -> tuple[Any, ...]:
        self.n_values += len(values)
        if self.n_values > MAX_VALUES:
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
        return tuple(values)


def _and(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else And(tuple(parts))
