"""Filters on labels and payloads, compared with the same conditions in Python; and pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from bitcodes import to_words
from index import (
    Collection,
    Database,
    Filter,
    InvalidItems,
    SearchOptions,
    Store,
)
from index.filters import column
from index.memory import rows
from tests.index.conftest import opened
from tests.index.filter_oracle import conditions, holds
from tests.index.items import CODES, IDS, ITEMS, LABELS, PAYLOADS


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    database = Database(tmp_path_factory.mktemp("filters") / "bitcell.db")
    store = Store(database)
    collection = store.create("c", 16)
    collection.upsert(IDS[:150], CODES[:150], LABELS[:150], PAYLOADS[:150])
    store.settle()
    # Some of these replace items, so that the record has payloads of dead items.
    collection.upsert(IDS[140:], CODES[140:], LABELS[140:], PAYLOADS[140:])
    yield collection
    store.close()
    database.close()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """A collection of all items, for tests that put back what they delete."""
    with opened(tmp_path_factory.mktemp("scratch") / "bitcell.db") as (_, store):
        collection = store.create("c", 16)
        collection.upsert(IDS, CODES, LABELS, PAYLOADS)
        yield collection


@settings(max_examples=150, deadline=None)
@given(conditions)
def test_a_filter_finds_exactly_the_items_that_meet_it(
    collection: Collection, condition: Any
) -> None:
    options = SearchOptions(300, where=Filter(condition))
    found = collection.search(CODES[:1], options)[0].neighbours
    expected = {i for i, item in ITEMS.items() if holds(condition, i, *item)}
    assert {near.id for near in found} == expected
    assert collection.count(Filter(condition)) == len(expected)
    page, n = collection.items(0, 300, where=Filter(condition))
    assert ({item.id for item in page}, n) == (expected, len(expected))
    everything = [item.id for item in collection.items(0, 300)[0]]
    assert [item.id for item in page] == [i for i in everything if i in expected]


@settings(max_examples=50, deadline=None)
@given(conditions)
def test_a_deletion_takes_exactly_the_items_that_meet_the_filter(
    scratch: Collection, condition: Any
) -> None:
    gone = [place for place, i in enumerate(IDS) if holds(condition, i, *ITEMS[i])]
    assert scratch.delete_matching(Filter(condition)) == len(gone)
    left = {item.id for item in scratch.items(0, 300)[0]}
    assert left == set(IDS) - {IDS[place] for place in gone}
    scratch.upsert(
        [IDS[place] for place in gone],
        CODES[gone],
        [LABELS[place] for place in gone],
        [PAYLOADS[place] for place in gone],
    )


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({}, "at least one field"),
        ([], "expected a filter"),
        ({"and": []}, "list of filters under 'and'"),
        ({"or": {"a": 1}}, "list of filters under 'or'"),
        ({"a": {"in": 3}}, "expected a value for 'a'"),
        ({"a": {"gt": None}}, "a bound of 'a' is a number or a string"),
        ({"a": {"gt": 1, "x": 2}}, "bounds among gt, gte, lt, lte"),
        ({"a": {"in": [[1]]}}, "is a string, number, boolean or null"),
        ({"a": 2**63}, "must fit into 64 bits"),
        ({"a": float("nan")}, "must be finite"),
        ({"label": "3"}, "a label is an integer"),
        ({"label": True}, "a label is an integer"),
        ({"a..b": 1}, "with dots between"),
        ({"": 1}, "with dots between"),
        ({"a": {"in": list(range(100_001))}}, "at most 100000 values"),
        ({"label": {"contains": 3}}, "a label is an integer"),
        ({"label": {"gte": 1.5}}, "a label is an integer"),
        ({"id": 5}, r"an id is a string.* of the payload is '\.id'"),
        ({"id": {"gte": "a"}}, "an id is a string"),
        ({"id": {"in": ["a", None]}}, "an id is a string"),
        ({"id": {"in": {}}}, "an id is a string"),
        ({"a": {"contains": [1]}}, "is a string, number, boolean or null"),
        ({"a": {"any": 1}}, "expected a value for 'a'"),
        ({"a": {"any": [1], "all": [1]}}, "expected a value for 'a'"),
        ({"a": {"all": [{"b": 1}]}}, "is a string, number, boolean or null"),
        ({".": 1}, "with dots between"),
        ({".a.": 1}, "with dots between"),
        ({'."a': 1}, "with dots between"),
        ({'."a"b': 1}, "with dots between"),
        ({'."\\x"': 1}, "with dots between"),
        ({'.""': 1}, "with dots between"),
        ({"a" * 65: 1}, "of 1 to 64 characters"),
        ({".".join("abcdefghi"): 1}, "up to 8 names"),
        ({f"a{i}": 1 for i in range(65)}, "at most 64 conditions"),
    ],
)
def test_an_invalid_filter_is_refused(condition: Any, message: str) -> None:
    with pytest.raises(InvalidItems, match=message):
        Filter(condition)
    deep: Any = {"a": 1}
    for _ in range(8):
        deep = {"not": deep}
    with pytest.raises(InvalidItems, match="at most 8 levels"):
        Filter(deep)


def test_a_filter_finds_nothing_in_an_empty_collection(tmp_path: Path) -> None:
    database = Database(tmp_path / "bitcell.db")
    store = Store(database)
    empty = store.create("empty", 16)
    for condition in ({"a": 1}, {"not": {"a": {"lt": 1}}}, {"label": 1}):
        options = SearchOptions(3, where=Filter(condition))
        assert [found.neighbours for found in empty.search(CODES[:2], options)] == [[], []]
    store.close()
    database.close()


def test_filters_stay_right_through_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are extended, joined, carried over to a new segment, dropped and read again."""
    monkeypatch.setattr(rows, "_SMALLEST_TAIL", 60)
    monkeypatch.setattr(column, "_MAX_BLOCKS", 4)
    rng = np.random.default_rng(3)
    conditions_used = [
        {"a": 1},
        {"i": {"gte": 30, "lt": 200}},
        {"n.a b": {"in": [1, 4]}},
        {"a": {"lt": "z"}, "not": {"id": {"in": IDS[::3]}}},
        {"tags": {"any": [1, "é", None]}},
        {"tags": {"all": [1, True]}, "id": {"in": IDS[::2]}},
        {"not": {"n.tags": {"contains": 2}}},
    ]
    items: dict[str, tuple[Any, Any]] = {}
    database = Database(tmp_path / "bitcell.db")
    store = Store(database)
    store.create("c", 16)
    for turn in range(60):
        collection = store.get("c")
        places = rng.choice(300, int(rng.integers(1, 40)), replace=False)
        ids = [IDS[place] for place in places]
        if turn % 4 == 3:
            collection.delete(ids)
            items = {i: item for i, item in items.items() if i not in ids}
        else:
            new = [(LABELS[p], PAYLOADS[rng.integers(300)]) for p in places]
            collection.upsert(ids, CODES[places], *map(list, zip(*new, strict=True)))
            items |= dict(zip(ids, new, strict=True))
        if turn % 7 == 0:
            store.settle()
        if turn == 40:
            store.close()
            database.close()
            database = Database(tmp_path / "bitcell.db")
            store = Store(database)
        for condition in (conditions_used[turn % 7], conditions_used[turn // 4 % 7]):
            options = SearchOptions(300, where=Filter(condition))
            near = store.get("c").search(CODES[:1], options)[0].neighbours
            expected = {i for i, item in items.items() if holds(condition, i, *item)}
            assert {one.id for one in near} == expected
    store.close()
    database.close()


def test_an_empty_collection_can_be_filtered_and_then_filled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_SMALLEST_TAIL", 10)
    collection = store.create("c", 16)
    options = SearchOptions(300, where=Filter({"i": {"gte": 0}}))
    assert collection.search(CODES[:1], options)[0].neighbours == []
    # A new segment takes over the columns of the old one, which had no rows.
    for first in range(0, 300, 100):
        part = slice(first, first + 100)
        collection.upsert(IDS[part], CODES[part], LABELS[part], PAYLOADS[part])
        store.settle()
        found = collection.search(CODES[:1], options)[0].neighbours
        assert {near.id for near in found} == {
            i for i, payload in zip(IDS[: first + 100], PAYLOADS, strict=False) if payload
        }
    collection.delete(IDS)
    store.settle()
    assert collection.search(CODES[:1], options)[0].neighbours == []


def test_numbers_and_text_are_compared_exactly(store: Store) -> None:
    collection = store.create("c", 8)
    values = [2**53, 2**53 + 1, float(2**53), 2**70, -0.0, "\ud800", "é", "z", 1e308, 5e-324]
    ids = [f"{i}" for i in range(len(values))]
    codes = np.zeros((len(values), 1), np.uint8)
    # As earlier versions stored them: `upsert` refuses the lone surrogate.
    texts = [json.dumps({"é": v, "a": {"é": v}}) for v in values]
    collection._state.put(ids, to_words(codes), np.full(len(ids), -1), texts, None)
    for field in ("é", "a.é"):
        for condition, expected in (
            (2**53, "02"),
            (2**53 + 1, "1"),
            ({"gt": 2**53}, "138"),
            ({"gt": float(2**53), "lt": 1e300}, "13"),
            (0, "4"),
            ({"gt": 0, "lt": 1}, "9"),
            ("\ud800", "5"),
            ({"gte": "é"}, "56"),
            ({"gt": 0, "lt": "z"}, ""),
            ({"in": ["z", 5e-324]}, "79"),
        ):
            options = SearchOptions(20, where=Filter({field: condition}))
            near = collection.search(codes[:1], options)[0].neighbours
            assert [one.id for one in near] == list(expected), condition


def test_pages_together_are_the_whole_answer(collection: Collection) -> None:
    whole = [near.id for near in collection.search(CODES[:1], SearchOptions(300))[0].neighbours]
    pages = [
        collection.search(CODES[:1], SearchOptions(37, offset=i))[0].neighbours
        for i in range(0, 330, 37)
    ]
    assert [near.id for page in pages for near in page] == whole
