"""Search against a brute-force popcount oracle."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index import Collection, Database, Filter, InvalidItems, Store, cost, rows, search

N_BITS = [8, 12, 24, 48, 64, 100, 256, 512]


class Model:
    """What a collection should hold, in Python's own types."""

    def __init__(self) -> None:
        self.items: dict[str, tuple[int, int, int]] = {}

    def nearest(
        self, query: int, k: int, radius: int | None, offset: int, third: int | None
    ) -> tuple[list[tuple[int, str]], int]:
        """Distances and ids of one page, and the number of ties at its last place."""
        pairs = sorted(
            ((query ^ code).bit_count(), item_id)
            for item_id, (code, label, _) in self.items.items()
            if third is None or label == third
        )
        pairs = [pair for pair in pairs if radius is None or pair[0] <= radius]
        first = pairs[: offset + k]
        tie = sum(pair[0] == first[-1][0] for pair in pairs) if first else 0
        return first[offset:], tie


class Life:
    """A collection and its model, through a random life."""

    def __init__(self, path: Path, seed: int, n_bits: int, largest: int) -> None:
        self.path, self.n_bits, self.largest = path, n_bits, largest
        self.rng = np.random.default_rng(seed)
        self.model = Model()
        distinct = int(self.rng.choice([1, 3, 40, 2000]))
        self.centres = self.rng.integers(0, 2, (distinct, n_bits), np.uint8)
        self.noise = float(self.rng.choice([0, 0.02, 0.1, 0.5]))
        self.open()
        self.store.create("c", n_bits)

    def open(self) -> None:
        self.database = Database(self.path)
        self.store = Store(self.database)

    def close(self) -> None:
        self.store.close()
        self.database.close()

    @property
    def collection(self) -> Collection:
        return self.store.get("c")

    def codes(self, n: int) -> np.ndarray:
        bits = self.centres[self.rng.integers(0, len(self.centres), n)]
        return np.packbits(bits ^ (self.rng.random(bits.shape) < self.noise), axis=1)

    def step(self) -> None:
        action = self.rng.choice(["upsert", "upsert", "delete", "restart", "settle"])
        n = int(self.rng.integers(1, self.largest + 1))
        names = [f"{i:x}" for i in self.rng.choice(2 * self.largest, n, replace=False)]
        if action == "upsert":
            codes, labels = self.codes(n), self.rng.integers(-1, 3, n)
            payloads = [{"i": int(i)} if i % 2 else None for i in labels]
            self.collection.upsert(names, codes, labels, payloads)
            for name, code, label in zip(names, codes, labels.tolist(), strict=True):
                self.model.items[name] = (int.from_bytes(code.tobytes()), label, label)
        elif action == "delete":
            there = [name for name in names if name in self.model.items]
            assert self.collection.delete(names) == len(there)
            for name in there:
                del self.model.items[name]
        elif action == "restart":
            self.close()
            self.open()
        else:
            self.store.settle()

    def check(self) -> int:
        """Compare answers with the model; how many were found by way of tables."""
        assert len(self.collection) == len(self.model.items)
        k, offset = int(self.rng.choice([1, 10, 300])), int(self.rng.choice([0, 0, 7]))
        radius = None if self.rng.random() < 0.6 else int(self.rng.integers(0, self.n_bits + 3))
        third = None if self.rng.random() < 0.6 else int(self.rng.integers(0, 3))
        where = None
        if third is not None:
            by_payload = third % 2 and self.rng.random() < 0.5
            where = Filter({"i": third} if by_payload else {"label": third})
        queries = self.codes(int(self.rng.choice([1, 5, 70])))
        found = self.collection.search(queries, k, radius, offset=offset, where=where)
        for query, answer in zip(queries, found, strict=True):
            number = int.from_bytes(query.tobytes())
            expected, tie = self.model.nearest(number, k, radius, offset, third)
            assert [(n.distance, n.id) for n in answer.neighbours] == expected
            proof = answer.certificate
            assert proof.exact
            assert proof.tie == tie
            farthest = expected[-1][0] if len(expected) == k else radius or 0
            assert proof.radius >= min(farthest, self.n_bits)
        return sum(answer.certificate.radius < self.n_bits for answer in found)


@pytest.fixture
def tables_wherever_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small collections, too, are searched by way of tables, and soon after a write."""
    for name, value in (("SMALLEST", 64), ("SCAN", 1e5), ("STEP", 0)):
        monkeypatch.setattr(cost, name, value)
    monkeypatch.setattr(rows, "_SMALLEST_TAIL", 100)
    monkeypatch.setattr(search, "_AT_ONCE", 16)


def live(seed: int, n_bits: int, largest: int, steps: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder) / "bitcell.db", seed, n_bits, largest)
        by_tables = 0
        for _ in range(steps):
            life.step()
            by_tables += life.check()
        life.close()
        return by_tables


@pytest.mark.usefixtures("tables_wherever_possible")
def test_tables_equal_the_oracle() -> None:
    assert sum(live(seed, N_BITS[seed % len(N_BITS)], 600, 10) for seed in range(8)) > 100


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(N_BITS), st.sampled_from([3, 50, 500]))
def test_a_collection_equals_the_oracle(seed: int, n_bits: int, largest: int) -> None:
    live(seed, n_bits, largest, 5)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(8, 512), st.sampled_from([100, 2000, 25_000]))
def test_200_collections_equal_the_oracle(seed: int, n_bits: int, largest: int) -> None:
    live(seed, n_bits, largest, 6)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    database = Database(tmp_path / "bitcell.db")
    store = Store(database)
    yield store
    store.close()
    database.close()


def test_neighbours_carry_label_and_payload(store: Store) -> None:
    collection = store.create("c", 8)
    payload = {"name": "ünï", "nested": [1, {"a": None}]}
    codes = np.array([[0], [1], [3]], np.uint8)
    collection.upsert(["a", "b", "c"], codes, [7, -1, None], [payload, None, {}])
    near = collection.search(codes[:1], 5)[0].neighbours
    assert [n.id for n in near] == ["a", "b", "c"]
    assert [n.distance for n in near] == [0, 1, 2]
    assert [n.label for n in near] == [7, None, None]
    assert [n.payload for n in near] == [payload, None, {}]
    bare = collection.search(codes[:1], 5, payloads=False)[0].neighbours
    assert [n.payload for n in bare] == [None] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"radius": -1}, "radius must be at least 0, got -1"),
        ({"offset": -1}, "offset must be at least 0, got -1"),
        ({"rerank": 3, "offset": 3}, r"rerank must be at least offset \+ k = 4, got 3"),
        ({"rerank": 3}, "takes the descriptors of the queries or their projections"),
        ({"rerank": 3, "descriptors": [[0.0]]}, "keeps no descriptors: make it with"),
        ({"rerank": 3, "projections": [[0.0]]}, r"projections of shape \(1, 8\)"),
        ({"queries": np.zeros((1, 2), np.uint8)}, r"shape \(1, 1\), got uint8 of shape \(1, 2\)"),
        ({"queries": np.zeros((1, 1), int)}, "got int64"),
    ],
)
def test_queries_are_checked(store: Store, change: dict[str, Any], message: str) -> None:
    collection = store.create("c", 8)
    arguments: dict[str, Any] = {"queries": np.zeros((1, 1), np.uint8), "k": 1} | change
    with pytest.raises(InvalidItems, match=message):
        collection.search(**arguments)


def test_the_cost_model_takes_tables_for_clusters_and_the_scan_for_uniform_codes() -> None:
    rng = np.random.default_rng(0)
    ones = np.ones(60_000, np.int64)
    uniform = rng.integers(0, 2**63, (60_000, 1), np.uint64)
    assert cost.fit(uniform, ones, 64).cut is None
    flips = np.uint64(1) << rng.integers(0, 64, (60_000, 3), np.uint64)
    clustered = (
        uniform[rng.integers(0, 1200, 60_000)] ^ np.bitwise_xor.reduce(flips, axis=1)[:, None]
    )
    model = cost.fit(clustered, ones, 64)
    assert model.cut is not None
    assert model.prefers_tables(10, 64, 1000)
    assert not model.prefers_tables(1000, 64, 1000)
