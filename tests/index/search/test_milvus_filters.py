"""Filters as expressions of Milvus, evaluated in Python as Milvus 2.3 evaluates them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from index import Filter, InvalidItems
from index.filters.milvus import to_milvus
from tests.index.filter_oracle import conditions, holds
from tests.index.items import ITEMS

# A string is a token of its own: the first unescaped quote ends it, as in the lexer of Milvus.
TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\\r\n]|\\.)*")|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"""
    r"""|(?P<word>[a-z_]+)|(?P<sign>[<>=]=|[<>()\[\],]))"""
)
MISSING = object()
Row = tuple[str, int, Any]
Meets = Callable[[Row], Any]


def tokens(text: str) -> Iterator[tuple[str, str]]:
    end = 0
    while end < len(text):
        match = TOKEN.match(text, end)
        assert match, text[end:]
        yield str(match.lastgroup), str(match[str(match.lastgroup)])
        end = match.end()
    yield "end", ""


class Expression:
    """An expression, read by the grammar of Milvus as far as it is used."""

    def __init__(self, text: str) -> None:
        self.left = list(tokens(text))[::-1]
        self.meets = self.condition()
        assert self.left == [("end", "")]

    def next(self, *expected: str) -> tuple[str, str]:
        kind, text = self.left.pop()
        assert not expected or text in expected, (text, expected)
        return kind, text

    def condition(self) -> Meets:
        first = self.one()
        while self.left[-1][1] in ("and", "or"):
            _, word = self.next()
            second = self.one()
            first = self.both(first, second) if word == "and" else self.either(first, second)
        return first

    def both(self, a: Meets, b: Meets) -> Meets:
        return lambda row: a(row) and b(row)

    def either(self, a: Meets, b: Meets) -> Meets:
        return lambda row: a(row) or b(row)

    def one(self) -> Meets:
        _, text = self.left[-1]
        if text == "(":
            self.next()
            inner = self.condition()
            self.next(")")
            return inner
        if text == "not":
            self.next()
            negated = self.one()
            return lambda row: not negated(row)
        if text.startswith("json_contains"):
            return self.contains()
        value = self.path()
        _, sign = self.next("in", "==", "<", "<=", ">", ">=")
        if sign == "in":
            wanted = self.values()
            assert len(set(map(type, wanted))) == 1
            return lambda row: any(same(value(row), each) for each in wanted)
        bound = self.value()
        return lambda row: compared(value(row), sign, bound)

    def contains(self) -> Meets:
        _, call = self.next("json_contains_any", "json_contains_all")
        self.next("(")
        value = self.path()
        self.next(",")
        wanted = self.values()
        assert len(set(map(type, wanted))) == 1
        self.next(")")
        some = any if call.endswith("any") else all

        def meets(row: Row) -> bool:
            found = value(row)
            return isinstance(found, list) and some(
                any(same_element(each, one) for each in found) for one in wanted
            )

        return meets

    def path(self) -> Meets:
        _, name = self.next("id", "label", "payload")
        names = []
        while self.left[-1][1] == "[":
            self.next()
            kind, text = self.next()
            assert kind == "text"
            names.append(json.loads(text))
            # Milvus does not read escapes in a path.
            assert text == f'"{names[-1]}"'
            self.next("]")
        assert bool(names) == (name == "payload")
        place = ("id", "label", "payload").index(name)

        def value(row: Row) -> Any:
            found = row[place]
            for each in names:
                if isinstance(found, list) and each.isdecimal() and int(each) < len(found):
                    found = found[int(each)]
                else:
                    found = found.get(each, MISSING) if isinstance(found, dict) else MISSING
            return found

        return value

    def values(self) -> list[Any]:
        self.next("[")
        found = [self.value()]
        while self.next(",", "]")[1] == ",":
            found.append(self.value())
        return found

    def value(self) -> Any:
        kind, text = self.next()
        assert kind in ("text", "number") or text in ("true", "false")
        return json.loads(text)


def same(found: Any, wanted: Any) -> bool:
    """Equality in `in` and `==`: a float with an integer value equals the integer."""
    if isinstance(found, bool) or isinstance(wanted, bool | str):
        return type(found) is type(wanted) and found == wanted
    return isinstance(found, int | float) and found == wanted


def same_element(found: Any, wanted: Any) -> bool:
    """Equality with elements of lists: an integer that is wanted equals no float."""
    return same(found, wanted) and not (type(wanted) is int and type(found) is float)


def compared(found: Any, sign: str, bound: Any) -> bool:
    if sign == "==":
        return same(found, bound)
    if isinstance(bound, str):
        if not isinstance(found, str):
            return False
        found, bound = found.encode(), bound.encode()
    elif isinstance(found, bool) or not isinstance(found, int | float):
        return False
    return bool(
        {"<": found < bound, "<=": found <= bound, ">": found > bound, ">=": found >= bound}[sign]
    )


def meets(condition: Any, row: Row) -> bool:
    return bool(Expression(to_milvus(Filter(condition))).meets(row))


@settings(max_examples=200, deadline=None)
@given(conditions)
def test_an_expression_means_what_the_filter_means(condition: Any) -> None:
    try:
        expression = Expression(to_milvus(Filter(condition)))
    except InvalidItems:
        reject()
    for item_id, (label, payload) in ITEMS.items():
        row = item_id, -1 if label is None else label, payload or {}
        assert bool(expression.meets(row)) == holds(condition, item_id, label, payload or {})


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_no_text_leaves_its_string(text: str) -> None:
    for condition in ({"a": text}, {"a": {"gte": text}}, {"a": {"contains": text}}):
        found = {"a": [text] if "contains" in str(condition) else text}
        assert meets(condition, ("x", -1, found))
    assert meets({"id": text}, (text, -1, {}))
    assert not meets({"id": text}, (text + "'", -1, {}))


@pytest.mark.parametrize(
    "text",
    [
        "x'] or id in ['a",
        'x"] or id in ["a',
        '\\" or 1 == 1 or id == "',
        "\\",
        "\\\\'",
        "\n\r\0\x7f",
    ],
)
def test_injections_are_plain_text(text: str) -> None:
    for condition in ({"id": text}, {"id": {"in": [text, "b"]}}, {"a": text}):
        assert not meets(condition, ("a", -1, {"a": "a"}))
    assert meets({"id": text}, (text, -1, {}))
    assert meets({"a": text}, ("a", -1, {"a": text}))


@pytest.mark.parametrize(
    ("condition", "expression"),
    [
        ({"id": "cup"}, '(id in ["cup"])'),
        ({"label": {"in": [3, 1]}}, "(label in [1, 3])"),
        ({"label": -1}, '(id == "")'),
        ({"label": {"lt": 5}}, "((label >= 0) and (label < 5))"),
        ({"label": {"gte": -(2**63)}}, "(label >= 0)"),
        ({"a": 1.0}, '(payload["a"] in [1])'),
        ({"a": True}, '(payload["a"] == true)'),
        ({"a": {"in": []}}, '(id == "")'),
        (
            {"a": {"in": [1, "1", False, 0.5]}},
            '((payload["a"] in [1]) or (payload["a"] in [0.5]) or (payload["a"] in ["1"]) '
            'or (payload["a"] == false))',
        ),
        ({"not": {"n.é": "ü"}}, '(not (payload["n"]["é"] in ["ü"]))'),
        ({"t": {"all": [1, "x"]}}, '(json_contains_all(payload["t"], [1.0]) and '
         'json_contains_all(payload["t"], ["x"]))'),
        ({"t": {"any": []}}, '(id == "")'),
        ({"a": 2**53 + 1}, '(payload["a"] in [9007199254740993])'),
    ],
)  # fmt: skip
def test_each_form(condition: Any, expression: str) -> None:
    assert to_milvus(Filter(condition)) == expression
    Expression(expression)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"a": None}, "cannot look for null"),
        ({"a": {"contains": None}}, "cannot look for null"),
        ({"a": {"all": []}}, "no filter for all lists"),
        ({'."a\\"b"': 1}, "quotes, backslashes"),
        ({'."a][b"': 1}, "brackets"),
        ({'."a\\u0000"': 1}, "control characters"),
        ({"a.0": 1}, "places in lists"),
        ({"a": {"gt": 2**53}}, r"smaller than 2\*\*53"),
        ({"a": {"lt": 1e300}}, r"smaller than 2\*\*53"),
        ({"a": -(2**63)}, r"smaller than 2\*\*63"),
        ({"a": 1e19}, r"smaller than 2\*\*63"),
        ({"a": {"any": [2**53]}}, r"smaller than 2\*\*53"),
        ({"a": "\ud800"}, "lone surrogates"),
        ({"id": "\ud800"}, "lone surrogates"),
        ({'."\\ud800"': 1}, "lone surrogates"),
    ],
)
def test_what_has_no_expression_is_refused(condition: Any, message: str) -> None:
    with pytest.raises(InvalidItems, match=message):
        to_milvus(Filter(condition))
