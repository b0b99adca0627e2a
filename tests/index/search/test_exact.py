"""Searches compared with a brute-force count of different bits."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcodes import to_words
from index import Collection, Database, Filter, InvalidItems, SearchOptions, Store
from index.memory import cost_model, rows
from index.search import exact, lookup

N_BITS = [8, 12, 24, 48, 64, 100, 256, 512]


# Number of bits set in each byte.
POPCOUNT = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


class Oracle:
    """The expected items of a collection, and their distances by comparing every code."""

    def __init__(self, names: list[str], n_bits: int) -> None:
        self.names = names
        self.by_name = np.array(sorted(range(len(names)), key=names.__getitem__))
        self.codes = np.zeros((len(names), (n_bits + 7) // 8), np.uint8)
        self.labels = np.zeros(len(names), np.int64)
        self.present = np.zeros(len(names), bool)

    def items(self, label: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the items with a label, sorted by id, and equal numbers for equal codes."""
        matches = self.present if label is None else self.present & (self.labels == label)
        items = self.by_name[matches[self.by_name]]
        return items, np.unique(self.codes[items], axis=0, return_inverse=True)[1].ravel()

    def distances(self, items: np.ndarray, query: np.ndarray) -> np.ndarray:
        distances: np.ndarray = POPCOUNT[self.codes[items] ^ query].sum(axis=1, dtype=np.uint16)
        return distances


class RandomActions:
    """A collection and its oracle, changed by the same random actions."""

    def __init__(self, path: Path, seed: int, n_bits: int, size: int) -> None:
        self.path, self.n_bits = path, n_bits
        self.rng = np.random.default_rng(seed)
        # A quarter of the names are not among the first items.
        self.oracle = Oracle([f"{i:x}" for i in range(size + -(-size // 4))], n_bits)
        distinct = int(self.rng.choice([1, 3, 40, 2000]))
        self.centres = self.rng.integers(0, 2, (distinct, n_bits), np.uint8)
        self.noise = float(self.rng.choice([0, 0.02, 0.1, 0.5]))
        # The centres have equal weights, or few of them have most of the items.
        weights = np.arange(1, distinct + 1.0) ** -float(self.rng.choice([0, 2]))
        self.weights = weights / weights.sum()
        self.largest = 0
        self.open()
        self.store.create("c", n_bits)
        self.upsert(self.rng.choice(len(self.oracle.names), size, replace=False))

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
        bits = self.centres[self.rng.choice(len(self.centres), n, p=self.weights)]
        return np.packbits(bits ^ (self.rng.random(bits.shape, np.float32) < self.noise), axis=1)

    def upsert(self, items: np.ndarray) -> None:
        codes, labels = self.codes(len(items)), self.rng.integers(-1, 3, len(items))
        payloads = [{"i": label} if label % 2 else None for label in labels.tolist()]
        names = [self.oracle.names[item] for item in items]
        self.collection.upsert(names, codes, labels, payloads)
        self.oracle.codes[items], self.oracle.labels[items] = codes, labels
        self.oracle.present[items] = True

    def step(self) -> None:
        action = self.rng.choice(["upsert", "upsert", "delete", "restart", "settle"])
        n_names = len(self.oracle.names)
        # Few items as often as most of them.
        items = self.rng.choice(n_names, int(n_names ** self.rng.random()), replace=False)
        if action == "upsert":
            self.upsert(items)
        elif action == "delete":
            names = [self.oracle.names[item] for item in items]
            assert self.collection.delete(names) == self.oracle.present[items].sum()
            self.oracle.present[items] = False
        elif action == "restart":
            self.close()
            self.open()
        else:
            self.store.settle()

    def check(self) -> None:
        """Compare answers to random queries with those of the oracle."""
        oracle = self.oracle
        assert len(self.collection) == oracle.present.sum()
        k, offset = int(self.rng.choice([1, 10, 300])), int(self.rng.choice([0, 0, 7]))
        radius = None if self.rng.random() < 0.6 else int(self.rng.integers(0, self.n_bits + 3))
        label = None if self.rng.random() < 0.6 else int(self.rng.integers(0, 3))
        where = None
        if label is not None:
            by_payload = label % 2 and self.rng.random() < 0.5
            where = Filter({"i": label} if by_payload else {"label": label})
        queries = self.codes(int(self.rng.choice([1, 5, 70])))
        count = bool(self.rng.random() < 0.7)
        options = SearchOptions(k, radius, offset, where, count_within=count)
        found = self.collection.search(queries, options)
        items, same = oracle.items(label)
        reach = self.n_bits if radius is None else min(radius, self.n_bits)
        for query, answer in zip(queries, found, strict=True):
            distances = oracle.distances(items, query)
            order = np.argsort(distances, kind="stable")
            first = order[: min(offset + k, np.count_nonzero(distances <= reach))]
            expected = [(int(distances[i]), oracle.names[items[i]]) for i in first[offset:]]
            assert [(near.distance, near.id) for near in answer.neighbours] == expected
            certificate = answer.certificate
            assert certificate.exact
            last = int(distances[first[-1]]) if len(first) else -1
            assert certificate.tie == np.count_nonzero(distances == last)
            covered = last if len(first) == offset + k else reach
            assert certificate.radius >= covered
            assert (certificate.looked or 0) >= len(np.unique(same[distances <= covered]))
            n_within = int(np.count_nonzero(distances <= reach))
            is_counted = radius is not None and (count or len(first) < offset + k)
            assert certificate.within == (n_within if is_counted else None)
            assert certificate.truncated == (n_within > len(first) if is_counted else None)
        self.largest = max(self.largest, len(self.collection))


def tables_wherever_possible(patch: pytest.MonkeyPatch) -> None:
    """Search small collections by tables, too, and soon after a write."""
    for name, value in (("SMALLEST", 1), ("SCAN", 1e5), ("STEP", 0)):
        patch.setattr(cost_model, name, value)
    patch.setattr(rows, "_SMALLEST_TAIL", 10)
    patch.setattr(exact, "_BLOCK", 16)


def compare_all(
    seed: int, n_bits: int, size: int, steps: int, *, tables: bool = False
) -> tuple[int, int]:
    """Compare all answers during random actions; return most items and answers by tables."""
    by_tables: list[int] = []

    class Counted(lookup.Lookup):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            by_tables.append(len(self.covered) - len(self.given_up))

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(exact, "Lookup", Counted)
        if tables:
            tables_wherever_possible(patch)
        actions = RandomActions(Path(folder) / "bitcell.db", seed, n_bits, size)
        if tables:
            actions.store.settle()
        for _ in range(steps):
            actions.check()
            actions.step()
        actions.check()
        actions.close()
    return actions.largest, sum(by_tables)


def test_tables_equal_the_oracle() -> None:
    runs = [compare_all(seed, N_BITS[seed % 8], 400, 8, tables=True) for seed in range(8)]
    assert sum(by_tables for _, by_tables in runs) > 500


def test_a_view_does_not_change_when_items_die_later(store: Store) -> None:
    codes = np.random.default_rng(0).integers(0, 256, (300, 1), np.uint8)
    collection = store.create("c", 8)
    collection.upsert([f"{i:03}" for i in range(300)], codes)
    store.settle()
    moments = []
    for start in range(0, 300, 50):
        moments.append(collection._state.rows.view())
        collection.delete([f"{i:03}" for i in range(start, start + 50, 2)])
    # The newest first, so that all others are earlier than the last moment that was used.
    for number, moment in reversed(list(enumerate(moments))):
        (found,) = exact.search(moment, to_words(codes[:1]), 300, None)
        assert sorted(found.rows.tolist()) == [
            row for row in range(300) if row >= 50 * number or row % 2
        ]


def test_many_items_of_one_code_are_not_copied_for_each_query(store: Store) -> None:
    n, n_queries = 20_000, 64
    collection = store.create("c", 16)
    codes = np.zeros((n, 2), np.uint8)
    codes[-1] = 255
    labels = np.arange(n) % 4
    collection.upsert([f"{i:05}" for i in range(n)], codes, labels)
    store.settle()
    queries = np.arange(n_queries, dtype=np.uint8)[:, None].repeat(2, axis=1)
    options = SearchOptions(3, where=Filter({"label": {"in": [1, 3]}}))
    tracemalloc.start()
    try:
        found = collection.search(queries, options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5e6  # One copy for each query takes 60 MB.
    for query, one in zip(queries, found, strict=True):
        far = 16 - 2 * int(query[0]).bit_count()  # To the last item, of another code.
        near = 2 * int(query[0]).bit_count()
        expected = [("00001", near), ("00003", near), ("00005", near)]
        if far < near:
            expected = [(f"{n - 1:05}", far), *expected[:2]]
        assert [(item.id, item.distance) for item in one.neighbours] == expected


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(N_BITS), st.sampled_from([3, 50, 500]))
def test_a_collection_equals_the_oracle(seed: int, n_bits: int, size: int) -> None:
    compare_all(seed, n_bits, size, 5)


@pytest.mark.slow
def test_200_collections_equal_the_oracle() -> None:
    """Sizes from 1 to 50,000 codes, evenly on a logarithmic scale, by scans and by tables."""
    runs: list[tuple[int, int]] = []

    @settings(max_examples=200, deadline=None, database=None)
    @given(st.integers(0, 2**32 - 1), st.integers(8, 512))
    def compare(seed: int, n_bits: int) -> None:
        rng = np.random.default_rng(seed)
        size, tables = round(50_000 ** rng.random()), bool(rng.random() < 0.8)
        runs.append(compare_all(seed, n_bits, size, 4, tables=tables))

    compare()
    sizes = sorted(largest for largest, _ in runs)
    assert len(runs) >= 200
    assert sizes[0] < 10
    assert sizes[-1] > 30_000
    assert sum(by_tables > 0 for _, by_tables in runs) >= 100


def test_neighbours_carry_label_and_payload(store: Store) -> None:
    collection = store.create("c", 8)
    payload = {"name": "ünï", "nested": [1, {"a": None}]}
    codes = np.array([[0], [1], [3]], np.uint8)
    collection.upsert(["a", "b", "c"], codes, [7, -1, None], [payload, None, {}])
    near = collection.search(codes[:1], SearchOptions(5))[0].neighbours
    assert [n.id for n in near] == ["a", "b", "c"]
    assert [n.distance for n in near] == [0, 1, 2]
    assert [n.label for n in near] == [7, None, None]
    assert [n.payload for n in near] == [payload, None, {}]
    bare = collection.search(codes[:1], SearchOptions(5, payloads=False))[0].neighbours
    assert [n.payload for n in bare] == [None] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"radius": -1}, "radius must be at least 0, got -1"),
        ({"offset": -1}, "offset must be at least 0, got -1"),
        ({"rerank": 3, "offset": 3}, r"rerank must be at least offset \+ k = 4, got 3"),
        ({"rerank": 3}, "by bits takes the projections of the queries"),
        ({"rerank": 3, "rerank_by": "descriptors"}, "keeps no descriptors: make it with"),
        ({"rerank_by": "bits"}, "rerank_by needs rerank, the number of items to reorder by bits"),
        ({"rerank": 3, "rerank_by": "id"}, "must be 'descriptors', 'cosine' or 'bits', got 'id'"),
        ({"rerank": 3, "projections": [[0.0]]}, r"projections of shape \(1, 8\)"),
        ({"codes": np.zeros((1, 2), np.uint8)}, r"shape \(1, 1\), got uint8 of shape \(1, 2\)"),
        ({"codes": np.zeros((1, 1), int)}, "got int64"),
    ],
)
def test_queries_are_checked(store: Store, change: dict[str, Any], message: str) -> None:
    collection = store.create("c", 8)
    options = {"k": 1} | change
    codes = options.pop("codes", np.zeros((1, 1), np.uint8))
    projections = options.pop("projections", None)
    with pytest.raises(InvalidItems, match=message):
        collection.search(codes, SearchOptions(**options), projections=projections)


def test_the_cost_model_prefers_tables_for_clusters_and_scans_for_uniform_codes() -> None:
    rng = np.random.default_rng(0)
    ones = np.ones(60_000, np.int64)
    uniform = rng.integers(0, 2**63, (60_000, 1), np.uint64)
    assert cost_model.fit(uniform, ones, 64).cut is None
    flips = np.uint64(1) << rng.integers(0, 64, (60_000, 3), np.uint64)
    clustered = (
        uniform[rng.integers(0, 1200, 60_000)] ^ np.bitwise_xor.reduce(flips, axis=1)[:, None]
    )
    model = cost_model.fit(clustered, ones, 64)
    assert model.cut is not None
    assert model.prefers_tables(10, 64, 1000)
    assert not model.prefers_tables(1000, 64, 1000)


def test_no_queries_have_no_answers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tables_wherever_possible(monkeypatch)
    collection = store.create("c", 64)
    collection.upsert([f"{i}" for i in range(100)], np.zeros((100, 8), np.uint8))
    store.settle()
    assert collection.search(np.empty((0, 8), np.uint8), SearchOptions(3)) == []
