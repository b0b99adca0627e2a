"""The meaning of filters in plain Python, independent of the index; and random filters."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.index.items import IDS, VALUES

MISSING = object()
# Keys with an escape, and the names that they stand for.
ESCAPED = {
    ".a": ["a"],
    ".n.a b": ["n", "a b"],
    ".id": ["id"],
    ".label": ["label"],
    ".and": ["and"],
    '."x.y"': ["x.y"],
    '."a.b".c': ["a.b", "c"],
    '.n."x.\\"y"': ["n", 'x."y'],
}


def kind(value: Any) -> Any:
    return (
        "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
    )


def equal(a: Any, b: Any) -> bool:
    return bool(kind(a) == kind(b) and a == b)


def holds(condition: Any, item_id: str, label: Any, payload: Any) -> bool:
    """Return whether an item meets a filter."""
    results = []
    for key, value in condition.items():
        if key == "not":
            results.append(not holds(value, item_id, label, payload))
        elif key in ("and", "or"):
            parts = [holds(part, item_id, label, payload) for part in value]
            results.append(all(parts) if key == "and" else any(parts))
        else:
            results.append(meets(value, value_of(key, item_id, label, payload)))
    return all(results)


def value_of(key: str, item_id: str, label: Any, payload: Any) -> Any:
    if key == "id":
        return item_id
    if key == "label":
        return MISSING if label is None else label
    found = payload
    for name in ESCAPED.get(key) or key.split("."):
        found = found.get(name, MISSING) if isinstance(found, dict) else MISSING
    return found


def meets(value: Any, found: Any) -> bool:
    if not isinstance(value, dict):
        return equal(found, value)
    if "in" in value:
        return any(equal(found, wanted) for wanted in value["in"])
    for name in {"contains", "any", "all"} & set(value):
        wanted = [value[name]] if name == "contains" else value[name]
        has = [any(equal(each, one) for each in found) for one in wanted if type(found) is list]
        return type(found) is list and (all(has) if name == "all" else any(has))
    tests = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}
    return all(
        kind(found) == kind(bound)
        and getattr(found.encode() if isinstance(found, str) else float(found), tests[name])(
            bound.encode() if isinstance(bound, str) else float(bound)
        )
        for name, bound in value.items()
    )


def _one_of(*names: str, values: Any) -> Any:
    return st.one_of(*(st.fixed_dictionaries({name: values}) for name in names))


scalars = st.sampled_from(VALUES[:12])
_bounds = st.dictionaries(
    st.sampled_from(["gt", "gte", "lt", "lte"]), st.sampled_from([0, 1.5, 3, "", "é"]), min_size=1
)
_labels = st.one_of(
    st.integers(0, 6),
    _one_of("in", values=st.lists(st.integers(0, 6), max_size=3)),
    _one_of("gte", values=st.integers(0, 6)),
)
_ids = st.sampled_from([*IDS[::30], "nobody"])
_fields = st.one_of(scalars, _bounds, _one_of("in", values=st.lists(scalars, max_size=4)))
_lists = st.one_of(
    _one_of("contains", values=scalars),
    _one_of("any", "all", values=st.lists(scalars, max_size=3)),
)
_leaves = st.one_of(
    st.fixed_dictionaries({"label": _labels}),
    st.fixed_dictionaries(
        {"id": st.one_of(_ids, _one_of("in", values=st.lists(_ids, max_size=9)))}
    ),
    st.dictionaries(
        st.sampled_from(["a", "n.a b", "i", "nothing", "tags", *ESCAPED]),
        _fields,
        min_size=1,
        max_size=2,
    ),
    st.dictionaries(st.sampled_from(["tags", "n.tags", "a"]), _lists, min_size=1, max_size=2),
)
conditions = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        _one_of("and", "or", values=st.lists(inner, min_size=1, max_size=3)),
        _one_of("not", values=inner),
    ),
    max_leaves=5,
)
"""Filters on items as `tests.index.items` has them."""
