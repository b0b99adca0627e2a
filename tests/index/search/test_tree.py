"""The tree that a filter is parsed into."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given, settings

from index import Filter
from index.filters.fields import Field
from index.filters.tree import And, Not, OnField, OnId, OnLabel, Or
from index.filters.values import as_value
from tests.index.filter_oracle import conditions

NODES = (And, Or, Not, OnField, OnId, OnLabel)


def leaves(part: Any) -> list[Any]:
    """Return all that a tree holds, below its nodes and their tests."""
    if is_dataclass(part):
        return [leaf for each in fields(part) for leaf in leaves(getattr(part, each.name))]
    if isinstance(part, tuple | frozenset):
        return [leaf for each in part for leaf in leaves(each)]
    if isinstance(part, dict) or hasattr(part, "keys"):
        return [leaf for each in part.values() for leaf in leaves(each)]
    return [part]


@settings(max_examples=50, deadline=None)
@given(conditions)
def test_a_tree_holds_plain_values_only(condition: Any) -> None:
    for leaf in leaves(Filter(condition).tree):
        assert leaf is None or type(leaf) in (str, int, float, bool)


def test_each_form_has_its_node() -> None:
    tree = Filter(
        {
            "id": {"in": ["a", "b"]},
            "or": [{"label": {"gte": 1}}, {"not": {"n.x": True}}],
            ".tags": {"all": [1, None]},
        }
    ).tree
    assert isinstance(tree, And)
    on_id, either, on_tags = tree.parts
    assert on_id == OnId(frozenset({"a", "b"}))
    assert isinstance(either, Or)
    on_label, negated = either.parts
    assert isinstance(on_label, OnLabel)
    assert (on_label.test.values, dict(on_label.test.bounds)) == ((), {"gte": 1})
    assert isinstance(negated, Not)
    assert isinstance(negated.part, OnField)
    assert negated.part.field == Field(("n", "x"))
    assert negated.part.test.wanted == {as_value(True)}
    assert isinstance(on_tags, OnField)
    assert (on_tags.field, on_tags.test.every) == (Field(("tags",), is_list=True), True)


def test_nobody_changes_a_tree() -> None:
    wanted = ["x"]
    bounds = {"gt": 1}
    where = Filter({"a": {"in": wanted}, "b": bounds})
    wanted.append("y")
    bounds["gt"] = 5
    assert isinstance(where.tree, And)
    first, second = where.tree.parts
    assert isinstance(first, OnField)
    assert isinstance(second, OnField)
    assert first.test.wanted == {"x"}
    assert second.test.bounds["gt"] == 1
    with pytest.raises(TypeError):
        second.test.bounds["gt"] = 5  # type: ignore[index]
    for node in (where.tree, first):
        assert isinstance(node, NODES)
        with pytest.raises((FrozenInstanceError, TypeError)):
            node.parts = ()  # type: ignore[misc, union-attr]
