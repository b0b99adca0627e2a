"""Filters on a real server, compared with the same conditions in Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from index import Filter, InvalidItems, backend
from index.filters.milvus import to_milvus
from tests.index.filter_oracle import conditions, holds
from tests.index.items import CODES, IDS, ITEMS, LABELS, PAYLOADS
from tests.index.milvus.conftest import store_of


@pytest.fixture(scope="module")
def collection(
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
    collection: backend.Collection, condition: Any
) -> None:
    check(collection, condition)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(conditions)
def test_many_filters_find_exactly_the_items_that_meet_them(
    collection: backend.Collection, condition: Any
) -> None:
    check(collection, condition)
