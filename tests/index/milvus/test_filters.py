"""Filters on a real server, compared with the same conditions in Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from index import Filter, InvalidItems, backend
from index.filters.milvus import to_milvus
from tests.index.filter_oracle import conditions, holds
from tests.index.items import CODES, IDS, ITEMS, LABELS, PAYLOADS
from tests.index.milvus.conftest import store_of


@pytest.fixture(scope="module")
def items(
    milvus_folder: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[backend.Collection]:
    folder = tmp_path_factory.mktemp("filters")
    with store_of(milvus_folder, folder, consistency="session") as store:
        made = store.create("c", 16)
        made.upsert(IDS, CODES, LABELS, PAYLOADS)
        yield made
        store.drop("c")
        store.settle()


def check(collection: backend.Collection, condition: Any) -> None:
    where = Filter(condition)
    try:
        to_milvus(where)
    except InvalidItems:
        with pytest.raises(InvalidItems):
            collection.count(where)
        return
    expected = {i for i, item in ITEMS.items() if holds(condition, i, item[0], item[1] or {})}
    found = [name for batch in collection.code_batches(where) for name in batch.ids]
    assert sorted(expected) == sorted(found)
    assert collection.count(where) == len(expected)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(conditions)
def test_a_filter_finds_exactly_the_items_that_meet_it(
    items: backend.Collection, condition: Any
) -> None:
    check(items, condition)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(conditions)
def test_many_filters_find_exactly_the_items_that_meet_them(
    items: backend.Collection, condition: Any
) -> None:
    check(items, condition)


NUMBERS = [
    *(
        sign * (2**power + more)
        for power in (24, 52, 53, 62)
        for more in (-1, 0, 1)
        for sign in (1, -1)
    ),
    *(2**63 - 1, 1 - 2**63, 0, 0.1, -0.0, 1.5, 1e15, 1e18, 1e300, 5e-324, 2.0**53, 2.0**60),
]
TEXTS = [
    "",
    "a",
    "A",
    "é",
    "e\u0301",
    "日本",
    "😀",
    "\\",
    '"',
    "'",
    "\n",
    "\x7f",
    "%",
    "x'] or id in ['a",
]


def test_edges_of_values_mean_the_same(collection: backend.Collection) -> None:
    values = [*NUMBERS, *TEXTS, True, False]
    payloads = [{"a": value, "t": [value, "x"]} for value in values]
    ids = [f"{i:03d}" for i in range(len(values))]
    collection.upsert(ids, np.zeros((len(ids), 1), np.uint8), None, payloads)
    conditions: list[Any] = [
        condition
        for value in values
        for condition in (
            {"a": value},
            {"t": {"contains": value}},
            {"a": {"in": [value, 7]}},
            *({"a": {sign: value}} for sign in ("gt", "lte") if not isinstance(value, bool)),
        )
    ]
    n_refused = 0
    for condition in conditions:
        where = Filter(condition)
        try:
            to_milvus(where)
        except InvalidItems:
            n_refused += 1
            continue
        expected = [
            i for i, each in zip(ids, payloads, strict=True) if holds(condition, i, None, each)
        ]
        found = [name for batch in collection.code_batches(where) for name in batch.ids]
        assert found == expected, condition
    assert n_refused < len(conditions) / 4
