"""Search against a brute-force popcount oracle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from index import Database, InvalidItems, Store
from index.flat import FlatIndex


def oracle(
    items: dict[str, bytes], query: bytes, k: int, radius: int | None = None
) -> list[tuple[int, str]]:
    """Distances by Python's own bit count, sorted by distance and id."""
    number = int.from_bytes(query)
    pairs = sorted(
        ((number ^ int.from_bytes(code)).bit_count(), item_id) for item_id, code in items.items()
    )
    return [pair for pair in pairs if radius is None or pair[0] <= radius][:k]


def random_codes(rng: np.random.Generator, n: int, n_bits: int, distinct: int) -> np.ndarray:
    """Codes with ties and duplicates: drawn from a few distinct ones."""
    bits = rng.integers(0, 2, (distinct, n_bits), np.uint8)
    return np.packbits(bits, axis=1)[rng.integers(0, distinct, n)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 8, 12, 24, 48, 64, 100, 256]),
    st.integers(0, 200),
    st.integers(1, 60),
    st.integers(1, 210),
    st.one_of(st.none(), st.integers(0, 130)),
)
def test_equals_the_oracle(
    seed: int, n_bits: int, n: int, distinct: int, k: int, radius: int | None
) -> None:
    rng = np.random.default_rng(seed)
    codes = random_codes(rng, n, n_bits, distinct)
    ids = [f"{i:x}" for i in rng.permutation(n)]
    index = FlatIndex(n_bits)
    index.upsert(ids, codes)
    items = {item_id: code.tobytes() for item_id, code in zip(ids, codes, strict=True)}
    queries = np.concatenate([codes[:3], random_codes(rng, 3, n_bits, 3)])
    found = index.search(queries, k, radius)
    assert found == [oracle(items, query.tobytes(), k, radius) for query in queries]


class IndexMachine(RuleBasedStateMachine):
    """Upserts and deletes in any order leave what a dict would hold."""

    @initialize()
    def start(self) -> None:
        self.index = FlatIndex(12)
        self.items: dict[str, bytes] = {}

    @rule(ids=st.sets(st.integers(0, 30), max_size=12), seed=st.integers(0, 2**32 - 1))
    def upsert(self, ids: set[int], seed: int) -> None:
        names = [str(i) for i in ids]
        codes = random_codes(np.random.default_rng(seed), len(names), 12, 5)
        self.index.upsert(names, codes)
        self.items |= {name: code.tobytes() for name, code in zip(names, codes, strict=True)}

    @rule(ids=st.sets(st.integers(0, 30), max_size=12))
    def delete(self, ids: set[int]) -> None:
        names = [str(i) for i in ids if str(i) in self.items]
        self.index.delete(names)
        for name in names:
            del self.items[name]

    @invariant()
    def finds_what_is_there(self) -> None:
        assert len(self.index) == len(self.items)
        query = np.array([[0b10100101, 0b11110000]], np.uint8)
        for k in (1, 4, 40):
            assert self.index.search(query, k) == [oracle(self.items, query.tobytes(), k)]
        if self.items:
            codes = self.index.codes(list(self.items))
            assert [code.tobytes() for code in codes] == list(self.items.values())


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    database = Database(tmp_path / "bitcell.db")
    yield Store(database)
    database.close()


def test_neighbours_carry_label_and_payload(store: Store) -> None:
    collection = store.create("c", 8)
    payload = {"name": "ünï", "nested": [1, {"a": None}]}
    codes = np.array([[0], [1], [3]], np.uint8)
    collection.upsert(["a", "b", "c"], codes, [7, -1, None], [payload, None, {}])
    (near,) = collection.search(codes[:1], 5)
    assert [n.id for n in near] == ["a", "b", "c"]
    assert [n.distance for n in near] == [0, 1, 2]
    assert [n.label for n in near] == [7, None, None]
    assert [n.payload for n in near] == [payload, None, {}]
    (bare,) = collection.search(codes[:1], 5, payloads=False)
    assert [n.payload for n in bare] == [None] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"radius": -1}, "radius must be at least 0, got -1"),
        ({"queries": np.zeros((1, 2), np.uint8)}, r"shape \(1, 1\), got uint8 of shape \(1, 2\)"),
        ({"queries": np.zeros((1, 1), int)}, "got int64"),
    ],
)
def test_queries_are_checked(store: Store, change: dict[str, Any], message: str) -> None:
    collection = store.create("c", 8)
    arguments: dict[str, Any] = {"queries": np.zeros((1, 1), np.uint8), "k": 1} | change
    with pytest.raises(InvalidItems, match=message):
        collection.search(**arguments)
