"""From JSON to the dataclasses of `bitcell_client.results`, driven by their type hints."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Reader = Callable[[Any], Any]

_NAMES: dict[Any, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
    dict: "an object",
    list: "an array",
}


class UnexpectedJson(ValueError):
    """JSON that does not have the expected type; the message says where, and what was expected."""

    def __init__(self, expected: str) -> None:
        super().__init__(expected)
        self.expected = expected
        self.path = ""

    def __str__(self) -> str:
        place = self.path.removeprefix(".")
        return f"{place}: {self.expected}" if place else self.expected


def from_json(kind: type[T], text: bytes | str) -> T:
    """Parse JSON into a value of a type: a dataclass, or anything its fields may have.

    Fields that the dataclass does not have are ignored, so that a client works with a newer
    service. Values are not converted, except that an integer may stand for a float.

    Raises
    ------
    ValueError
        It is not JSON, a required field is missing, or a value has another type
        (`UnexpectedJson`).
    """
    read: Callable[[Any], T] = _reader(cast(Any, kind))
    return read(parse_json(text))


def parse_json(text: bytes | str) -> Any:
    """Parse JSON; ValueError for anything else, and where it is nested too deeply."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("expected JSON, got JSON that is nested too deeply") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"expected JSON, got {name}, which it does not have")


@cache
def _reader(kind: Any) -> Reader:
    """Return a function that checks a JSON value and converts it to `kind`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _dataclass_reader(kind)
    if kind is Any:
        return lambda value: value
    if kind is float:
        return _read_float
    if kind in _NAMES:
        return _plain_reader(kind)
    if origin is Literal:
        return _literal_reader(arguments)
    if origin in (Union, UnionType):
        return _union_reader(arguments)
    if origin is list:
        return _list_reader(*arguments)
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin is dict and arguments[0] is str:
        return _dict_reader(arguments[1])
    raise TypeError(f"expected a type that JSON can stand for, got {kind}")


def _dataclass_reader(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    known = [(field.name, _reader(hints[field.name])) for field in fields(kind)]
    required = [field.name for field in fields(kind) if field.default is MISSING]

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise _unexpected("an object", value)
        for name in required:
            if name not in value:
                raise UnexpectedJson(f"expected a field {name!r} of {kind.__name__}; it is missing")
        given: dict[str, Any] = {}
        for name, reader in known:
            if name in value:
                try:
                    given[name] = reader(value[name])
                except UnexpectedJson as error:
                    raise _inside(f".{name}", error) from None
        return kind(**given)

    return read


def _list_reader(element: Any) -> Reader:
    reader = _reader(element)

    def read(value: Any) -> Any:
        if type(value) is not list:
            raise _unexpected("an array", value)
        items: list[Any] = []
        try:
            for item in value:
                items.append(reader(item))  # noqa: PERF401 - its length says where it failed
        except UnexpectedJson as error:
            raise _inside(f"[{len(items)}]", error) from None
        return items

    return read


def _tuple_reader(elements: tuple[Any, ...]) -> Reader:
    readers = [_reader(element) for element in elements]

    def read(value: Any) -> Any:
        if type(value) is not list or len(value) != len(readers):
            raise _unexpected(f"an array of {len(readers)} elements", value)
        pairs = enumerate(zip(readers, value, strict=True))
        return tuple(_read_at(f"[{i}]", reader, item) for i, (reader, item) in pairs)

    return read


def _dict_reader(element: Any) -> Reader:
    if element is Any:
        return _plain_reader(dict)
    reader = _reader(element)

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise _unexpected("an object", value)
        return {name: _read_at(f".{name}", reader, item) for name, item in value.items()}

    return read


def _union_reader(alternatives: tuple[Any, ...]) -> Reader:
    without_none = [kind for kind in alternatives if kind is not NoneType]
    if len(without_none) == 1:
        reader = _reader(without_none[0])
        return lambda value: None if value is None else reader(value)
    readers = [_reader(kind) for kind in alternatives]

    def read(value: Any) -> Any:
        reasons = []
        for reader in readers:
            try:
                return reader(value)
            except UnexpectedJson as error:
                reasons.append(str(error))
        raise UnexpectedJson("; or ".join(reasons))

    return read


def _literal_reader(values: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if value not in values:
            raise _unexpected("one of " + ", ".join(map(repr, values)), value)
        return value

    return read


def _plain_reader(kind: Any) -> Reader:
    def read(value: Any) -> Any:
        # Not isinstance: True is an int in Python, but not in JSON.
        if type(value) is not kind:
            raise _unexpected(_NAMES[kind], value)
        return value

    return read


def _read_float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is not int:
        raise _unexpected("a number", value)
    try:
        return float(value)
    except OverflowError:
        raise _unexpected("a number that a float can hold", value) from None


def _read_at(place: str, reader: Reader, value: Any) -> Any:
    try:
        return reader(value)
    except UnexpectedJson as error:
        raise _inside(place, error) from None


def _inside(place: str, error: UnexpectedJson) -> UnexpectedJson:
    error.path = place + error.path
    return error


def _unexpected(expected: str, value: Any) -> UnexpectedJson:
    return UnexpectedJson(f"expected {expected}, got {value!r:.80}")
