"""Columns of payload fields: how often payloads are read, and how much memory columns take."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from index import Database, Filter, SearchOptions, Store
from index.filters import columns, lists
from index.filters.blocks import Block, Growing, GrowingBlock, GrowingLists
from index.filters.fields import Field
from index.filters.values import Test as Condition
from index.filters.values import Values, as_value
from index.memory import rows
from tests.index.items import VALUES

N = 600
IDS = [f"{i:03}" for i in range(N)]
CODES = np.random.default_rng(0).integers(0, 256, (N, 1), np.uint8)
MEGABYTE = 1 << 20
FIELD = Field(("f0",))


def payload(i: int) -> dict[str, Any]:
    return {"i": i, "mod": {"three": i % 3}} | {f"f{j}": (i + j) % 5 for j in range(70)}


class Counted:
    """A collection of N items that counts the payloads that it reads."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, max_columns: int) -> None:
        monkeypatch.setattr(columns, "_CHUNK", 100)
        self.database = Database(path)
        self.store = Store(self.database, max_columns=max_columns)
        self.collection = self.store.create("c", 8, keep_descriptors=True)
        X = np.zeros((N, 1))
        self.collection.upsert(IDS, CODES, None, [payload(i) for i in range(N)], X)
        self.store.settle()
        self.reads: list[int] = []
        self._read = self.collection._state.record.payloads
        monkeypatch.setattr(self.collection._state.record, "payloads", self._counted)

    def _counted(self, serials: Any) -> dict[int, str]:
        serials = list(serials)
        self.reads.append(len(serials))
        return self._read(serials)

    def find(self, condition: Any, **more: Any) -> list[int]:
        """Return the numbers of the items that match, ascending."""
        options = SearchOptions(2 * N, where=Filter(condition), payloads=False)
        found = self.collection.search(CODES[:1], options, **more)[0].neighbours
        return sorted(int(near.id) for near in found)

    def n_read(self) -> int:
        """Return the number of payloads read since the last call."""
        n = sum(self.reads)
        self.reads.clear()
        return n


@pytest.fixture
def max_columns() -> int:
    return 64 * MEGABYTE


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_columns: int) -> Iterator[Counted]:
    counted = Counted(tmp_path / "bitcell.db", monkeypatch, max_columns)
    yield counted
    counted.store.close()
    counted.database.close()


def test_all_fields_of_a_filter_are_read_in_one_pass(counted: Counted) -> None:
    condition = {f"f{j}": {"lt": 5} for j in range(62)} | {"mod.three": 1, "i": {"gte": 300}}
    expected = [i for i in range(300, N) if i % 3 == 1]
    assert counted.find(condition) == expected
    assert counted.n_read() == N
    assert counted.find(condition) == expected
    assert counted.n_read() == 0
    counted.collection.upsert(
        ["900", "901"], CODES[:2], None, [payload(900), payload(901)], [[0], [0]]
    )
    assert counted.find(condition) == [*expected, 901]
    assert counted.n_read() == 2


def test_a_new_segment_reads_only_new_payloads_in_one_pass(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_SMALLEST_TAIL", 10)
    assert counted.find({"f0": 0, "f1": {"in": [1]}}) == list(range(0, N, 5))
    new = list(range(N, N + 50))
    counted.n_read()
    counted.collection.upsert(
        [f"{i:03}" for i in new], CODES[:50], None, [payload(i) for i in new], np.zeros((50, 1))
    )
    counted.store.settle()
    assert len(counted.collection._state.rows.view().tail) == 0
    # f2 is new, the others lack 50 rows.
    assert counted.find({"f0": 0, "f1": 1, "f2": 2}) == list(range(0, N + 50, 5))
    assert counted.n_read() == 50 + N + 50


def test_queries_that_need_the_same_fields_read_them_once(counted: Counted) -> None:
    reading, proceed = Event(), Event()

    def checkpoint() -> None:
        reading.set()
        assert proceed.wait(20)

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(counted.find, {"f0": 0, "f1": 1}, checkpoint=checkpoint)
        assert reading.wait(20)
        others = [pool.submit(counted.find, {f"f{j % 3}": j % 3}) for j in range(7)]
        proceed.set()
        expected = list(range(0, N, 5))
        assert [query.result(20) for query in (first, *others)] == [expected] * 8
    # f0 and f1 together, f2 alone.
    assert counted.n_read() == 2 * N


class GivenUp(Exception):
    pass


def test_a_query_that_is_given_up_leaves_what_it_has_read(counted: Counted) -> None:
    steps = 0

    def checkpoint() -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            raise GivenUp

    with pytest.raises(GivenUp):
        counted.find({"f0": 0, "i": {"lt": 500}}, checkpoint=checkpoint)
    assert counted.n_read() == 400
    assert counted.find({"f0": 0}) == list(range(0, N, 5))
    assert counted.n_read() == N - 400
    # f1 is new, so that one pass reads all rows for it, and those that are left for i.
    assert counted.find({"f0": 0, "f1": 1, "i": {"lt": 500}}) == list(range(0, 500, 5))
    assert counted.n_read() == N


def test_a_query_that_is_given_up_after_a_new_segment_leaves_what_it_has_read(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise queries would never end if reading what is new takes longer than their time."""
    monkeypatch.setattr(rows, "_SMALLEST_TAIL", 10)
    fields = {f"f{j}": {"gte": 0} for j in range(3)}
    counted.find(fields)
    counted.find({"i": 0})
    counted.n_read()
    new = list(range(N, 2 * N))
    counted.collection.upsert(
        [f"{i:03}" for i in new], CODES, None, [payload(i) for i in new], np.zeros((N, 1))
    )
    counted.store.settle()
    for condition, give_up_at in (({"f0": 1, "f1": 2}, 4), ({"i": 1}, 3), (fields, 4)):
        steps = iter(range(2, 100))

        def checkpoint(steps: Iterator[int] = steps, last: int = give_up_at) -> None:
            if next(steps) > last:
                raise GivenUp

        with pytest.raises(GivenUp):
            counted.find(condition, checkpoint=checkpoint)
    # f0 and f1: 300, i: 200, and then 300 for f2 of those that f0 and f1 have.
    assert counted.n_read() == 300 + 200 + 300
    # One item goes, and one is replaced, before the rest is read.
    counted.collection.delete(["900"])
    counted.collection.upsert(["007"], CODES[:1], None, [payload(6)], [[0]])
    expected = [i for i in range(2 * N) if i % 5 == 1 and i != 900]
    assert counted.find({"f0": 1, "f1": 2, "f2": 3}) == sorted([*expected, 7])
    assert counted.n_read() == N - 300 + 1
    assert counted.find({"i": {"lt": 8}}) == [*range(8)]
    assert counted.n_read() == N - 200 + 1


def fail() -> None:
    raise GivenUp


def test_a_query_waits_for_another_that_reads_but_not_to_read_little(counted: Counted) -> None:
    expected = counted.find({"f0": 0})
    counted.collection.delete(["000"])
    counted.collection.upsert(["900"], CODES[:1], None, [payload(900)], [[0]])
    with counted.store._columns.reading:
        assert counted.find({"f0": 0}) == [*expected[1:], 900]
        assert counted.collection.is_ready(Filter({"f0": 0, "label": 3}))
        assert not counted.collection.is_ready(Filter({"f0": 0, "f1": 3}))
        with pytest.raises(GivenUp):
            counted.find({"f1": 1}, checkpoint=fail)


@pytest.mark.parametrize("max_columns", [MEGABYTE // 4])
def test_columns_stay_within_their_bytes(counted: Counted) -> None:
    """Also those of fields that no payload has."""
    cache = counted.store._columns
    for j in range(0, 100, 20):
        counted.find({"f0": 0} | {f"missing{j + k}": 1 for k in range(20)})
        assert 0 < cache.nbytes <= MEGABYTE // 4
    assert 20 < len(cache._columns) < 100
    assert cache.nbytes == sum(column.nbytes for column in cache._columns.values())
    counted.n_read()
    # The most recently used ones are there.
    counted.find({"f0": 0, "missing99": 1})
    assert counted.n_read() == 0
    counted.find({"missing0": 1})
    assert counted.n_read() == N


def test_the_bytes_of_columns_are_not_more_than_stated(counted: Counted) -> None:
    cache = counted.store._columns
    ids = [f"{i}" for i in range(1000, 1000 + N)]
    payloads = [
        {"text": f"a text of its own: {i}", "number": i + 0.5, "list": [i, i + 0.5, f"{i}"] * 3}
        for i in range(N)
    ]
    counted.collection.upsert(ids, CODES, None, payloads, np.zeros((N, 1)))
    counted.find({"f0": 0})
    for conditions in (
        {"text": 1},
        {"number": 1},
        {"list": {"contains": 1}},
        {f"missing{j}": 1 for j in range(16)},
    ):
        before = cache.nbytes
        tracemalloc.start()
        try:
            counted.find(conditions)
            used = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        # Python keeps some freed objects for later.
        assert used - (1 << 14) <= cache.nbytes - before < 10 * used


@pytest.mark.parametrize("max_columns", [1])
def test_a_filter_that_exceeds_the_bytes_is_answered_without_columns(
    counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    counted.collection.upsert(["900"], CODES[:1], [4], [{"i": 900}], [[0]])
    assert counted.find({"f0": 0, "mod.three": {"gt": 0}}) == [
        i for i in range(0, N, 5) if i % 3 > 0
    ]
    assert "the 2 fields of a filter do not fit" in caplog.text
    assert counted.find({"or": [{"label": 4}, {"i": {"in": [0, 7]}}]}) == [0, 7, 900]
    assert counted.find({"label": 4}) == [900]
    assert counted.store._columns.nbytes == 0
    with pytest.raises(GivenUp):
        counted.find({"f0": 0}, checkpoint=fail)


@pytest.mark.parametrize("max_columns", [1, 64 * MEGABYTE])
def test_thousands_of_values_are_looked_up_once(counted: Counted, max_columns: int) -> None:
    """Also where the fields do not fit into memory, and chunk after chunk of rows is tested."""
    ids = [f"{i:03}" for i in range(300, 700)]
    payloads = [payload(i) | {"text": f"t{i}", "list": [i, f"t{i}"]} for i in range(300, 700)]
    labels = [i % 97 for i in range(300, 700)]
    counted.collection.upsert(ids, np.tile(CODES[:1], (400, 1)), labels, payloads, [[0]] * 400)
    for step in (7, 40_000):
        values = list(range(0, 100_000, step))
        wanted = [i for i in range(700) if i % step == 0]
        late = [i for i in wanted if i >= 300]
        assert counted.find({"i": {"in": values}}) == wanted
        assert counted.find({"text": {"in": [f"t{i}" for i in values]}}) == late
        assert counted.find({"list": {"any": values}}) == late
        assert counted.find({"id": {"in": [f"{i:03}" for i in values]}}) == wanted
        assert counted.find({"label": {"in": values}}) == [
            i for i in range(300, 700) if i % 97 % step == 0
        ]
        everything = [*values, *(f"t{i}" for i in values)][:50_000]
        both = {"or": [{"list": {"all": everything}}, {"not": {"i": {"in": values}}}]}
        assert counted.find(both) == [i for i in range(700) if i % step]


def test_a_collection_that_is_gone_leaves_no_columns(counted: Counted) -> None:
    state, cache = counted.collection._state, counted.store._columns
    view = state.rows.view()
    other = counted.store.create("other", 8)
    other.upsert(IDS, CODES, None, [payload(i) for i in range(N)])
    other.search(CODES[:1], SearchOptions(1, where=Filter({"i": 1})))
    left = cache.nbytes
    counted.find({"i": 1})
    assert cache.nbytes > left
    counted.store.reencode("c", lambda X: np.zeros((len(X), 1), np.uint8), 8)
    assert cache.nbytes == left
    # A query that ends later leaves nothing, either.
    assert len(state.columns.find([FIELD], view, lambda: None)[FIELD]) == N
    assert cache.nbytes == left
    counted.store.drop("other")
    assert cache.nbytes == 0


def test_integers_that_share_a_hash_do_not_slow_a_filter_down(counted: Counted) -> None:
    """A dictionary of n values with one hash takes n² steps."""
    prime = sys.hash_info.modulus
    values = [i * prime for i in range(5, N)]
    assert len(set(map(hash, values))) == 1
    assert len({hash(as_value(value)) for value in values}) == len(values)
    ids = [f"{i}" for i in range(5, N)]
    counted.collection.upsert(
        ids, CODES[5:], None, [{"big": value} for value in values], np.zeros((N - 5, 1))
    )
    assert counted.find({"big": {"gt": float(590 * prime)}}) == list(range(591, N))


@pytest.mark.parametrize("kind", [GrowingBlock, GrowingLists])
def test_a_growing_block_equals_one_of_all_rows(kind: type[Growing]) -> None:
    rng = np.random.default_rng(0)
    found = [VALUES[place] for place in rng.integers(0, len(VALUES), 500)]
    if kind is GrowingBlock:
        found += [2**70, 2.0**70, 2**70 + 1]
    else:
        found += [[], [[]], [VALUES[3:9]], VALUES[3:9], VALUES[8:2:-1], [2**70, 2.0**70]]
    growing, parts = kind(), []
    for start in range(0, len(found), 37):
        growing.add(found[start : start + 37])
        part = kind()
        part.add(found[start : start + 37])
        parts.append(part.finish())
    whole = growing.finish()
    joined = Block.join(parts)
    again = Block.join([Block(joined.values, joined.places[100:]), whole, kind().finish()])
    read: Callable[[Any], Any] = as_value if kind is GrowingBlock else as_elements
    for block, expected in ((whole, found), (joined, found), (again, found[100:] + found)):
        assert values_of(block) == list(map(read, expected))


def test_lists_of_many_elements_take_little_more_memory_than_they_keep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A payload of 64 KiB holds 30,000 numbers, and every join works on all of them."""
    monkeypatch.setattr(lists, "_BLOCK", 1 << 14)
    rng = np.random.default_rng(0)
    found = [rng.permutation(12_000)[:5000].tolist() for _ in range(40)]
    tracemalloc.start()
    try:
        growing = GrowingLists()
        for start in range(0, 40, 10):
            growing.add(found[start : start + 10])
        block = growing.finish()
        peaks = [(tracemalloc.get_traced_memory()[1], growing.nbytes)]
        for work in (
            lambda: Block.join([block, GrowingLists().finish()]),
            lambda: block.meeting(Condition([3, 5], every=True)),
        ):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            work()
            peaks.append((tracemalloc.get_traced_memory()[1] - before, block.nbytes))
    finally:
        tracemalloc.stop()
    assert max(peak / kept for peak, kept in peaks) < 3, peaks


def as_elements(value: Any) -> Any:
    """Return the set of the elements of a list; None for what is no list."""
    return set(map(as_value, value)) if isinstance(value, list) else None


def values_of(block: Block) -> list[Any]:
    """Return the value in each row, or the elements of the list as `as_elements` does."""
    distinct: list[Any]
    if isinstance(block.values, Values):
        distinct = list(block.values.in_order())
    else:
        elements = list(block.values.elements.in_order())
        parts = np.split(block.values._places, block.values._ends[:-1])
        distinct = [None, *({elements[at] for at in part} for part in parts[1:])]
    return [distinct[place] for place in block.places]
