"""A filter as an expression of Milvus, which means the same or is refused.

Items have `id` (VARCHAR), `label` (INT64, -1 for none) and `payload` (JSON). Comparisons of Milvus
with a missing field, or with one of another type, are false, and `not` of them is true. All text is
written as JSON, whose escapes Milvus reads, so that no value can end its string.

What is refused, with `InvalidItems`, is what Milvus 2.3 cannot tell apart or would round.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from index.errors import InvalidItems
from index.filters.fields import Field
from index.filters.filter import Filter
from index.filters.tree import And, Node, Not, OnField, OnId, OnLabel, Or
from index.filters.values import Other, Test

# No id is empty, so that nothing meets this.
_NOTHING = 'id == ""'
_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
# Milvus takes a path apart without reading its escapes.
_PLAIN_NAME = re.compile(r"""[^\x00-\x1f"'\\\[\]]+""")
# In the path of a list, such a name is a place in the list.
_PLACE = re.compile(r"[0-9]+|-")
# Larger integers are not all floats. Filters compare numbers as floats with bounds, and Milvus
# does not; elements of lists it does.
_EXACT = 1 << 53
_LARGEST = (1 << 63) - 1


def to_milvus(where: Filter) -> str:
    """Return the expression that the items meet which meet a filter.

    Raises
    ------
    InvalidItems
        Milvus has no expression of the same meaning.
    """
    return _expression(where.tree)


def _expression(node: Node) -> str:
    """Return an expression that needs no parentheses around it."""
    match node:
        case And(parts):
            return _joined("and", map(_expression, parts))
        case Or(parts):
            return _joined("or", map(_expression, parts))
        case Not(part):
            return f"(not {_expression(part)})"
        case OnId(ids):
            return _among("id", [_text(item_id) for item_id in sorted(ids)])
        case OnLabel(test):
            return _on_label(test)
        case OnField(field, test):
            return _on_list(field, test) if field.is_list else _on_value(field, test)


def _joined(word: str, parts: Iterable[str]) -> str:
    listed = list(parts)
    return listed[0] if len(listed) == 1 else f"({f' {word} '.join(listed)})"


def _among(what: str, literals: Sequence[str]) -> str:
    return f"({what} in [{', '.join(literals)}])" if literals else f"({_NOTHING})"


def _on_label(test: Test) -> str:
    """Return a condition that an item without a label, whose label is -1, never meets."""
    if not test.bounds:
        return _among("label", [str(value) for value in sorted(set(test.values)) if value >= 0])
    parts = ["(label >= 0)"]
    for name, bound in test.bounds.items():
        if int(bound) >= 0:
            parts.append(f"(label {_SIGNS[name]} {bound})")
        elif name in ("lt", "lte"):
            parts.append(f"({_NOTHING})")
    return _joined("and", parts)


def _on_value(field: Field, test: Test) -> str:
    path = _path(field)
    if test.bounds:
        return _joined(
            "and", [f"({path} {_SIGNS[name]} {_bound(of)})" for name, of in test.bounds.items()]
        )
    # A list of values of several types would be read as one of the type of the first.
    others, numbers, texts = test.wanted_of_type
    integers = sorted(int(number) for number in numbers if number == int(number))
    rest = sorted(float(number) for number in numbers if number != int(number))
    groups = [[_integer(each) for each in integers], list(map(repr, rest))]
    groups.append([_text(text) for text in sorted(texts)])
    parts = [_among(path, group) for group in groups if group]
    parts += [f"({path} == {literal})" for literal in _booleans(others)]
    return _joined("or", parts) if parts else f"({_NOTHING})"


def _on_list(field: Field, test: Test) -> str:
    path = _path(field)
    others, numbers, texts = test.wanted_of_type
    groups = [
        [_float(number) for number in sorted(numbers)],
        [_text(text) for text in sorted(texts)],
        *([literal] for literal in _booleans(others)),
    ]
    call = "json_contains_all" if test.every else "json_contains_any"
    parts = [f"{call}({path}, [{', '.join(group)}])" for group in groups if group]
    if not parts and test.every:
        raise InvalidItems(
            "this index has no filter for all lists, {'all': []}: name values that they have"
        )
    return _joined("and" if test.every else "or", parts) if parts else f"({_NOTHING})"


def _path(field: Field) -> str:
    for place, name in enumerate(field.names):
        if not _PLAIN_NAME.fullmatch(name):
            raise InvalidItems(
                "a field has no quotes, backslashes, brackets and control characters in its name "
                f"in a filter of this index; got {name!r}"
            )
        if place and _PLACE.fullmatch(name):
            raise InvalidItems(
                "a field inside another has a name that is no number in a filter of this index, "
                f"where numbers are places in lists; got {name!r}"
            )
        _encoded(name)
    return "payload" + "".join(f"[{json.dumps(name, ensure_ascii=False)}]" for name in field.names)


def _booleans(others: Iterable[Other]) -> list[str]:
    found = set(others)
    if Other.NULL in found:
        raise InvalidItems("a filter of this index cannot look for null")
    return [
        text for value, text in ((Other.TRUE, "true"), (Other.FALSE, "false")) if value in found
    ]


def _bound(value: float | str) -> str:
    if isinstance(value, str):
        return _text(value)
    if value != int(value):
        return repr(value)
    if abs(value) >= _EXACT:
        raise InvalidItems(
            f"a bound of a number is smaller than 2**53 in a filter of this index; got {value}"
        )
    return _integer(int(value))


def _integer(value: int) -> str:
    if abs(value) > _LARGEST:
        raise InvalidItems(
            f"a number in a filter of this index is smaller than 2**63; got {value:g}"
        )
    return str(value)


def _float(value: float) -> str:
    """Return a number as a float, which elements of lists that are integers equal, too."""
    if abs(value) >= _EXACT:
        raise InvalidItems(
            f"a number in a list is smaller than 2**53 in a filter of this index; got {value}"
        )
    return repr(float(value))


def _text(value: str) -> str:
    _encoded(value)
    return json.dumps(value, ensure_ascii=False)


def _encoded(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidItems(
            f"text in a filter of this index has no lone surrogates; got {value!a:.60}"
        ) from None
