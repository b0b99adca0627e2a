"""Conditions on label and payload against the same in Python; paging, reranking, encoding anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcodes import to_words
from index import (
    AlreadyExists,
    Collection,
    Database,
    Filter,
    InvalidItems,
    NotFound,
    Replaced,
    SearchOptions,
    Store,
)
from index.filters import columns
from index.memory import rows

rng = np.random.default_rng(0)
CODES = rng.integers(0, 256, (300, 2), np.uint8)
IDS = [f"{i:03x}" for i in rng.permutation(300)]
VALUES: list[Any] = [None, True, False, 0, 1, 1.0, 2.5, -3, "", "1", "true", "é", [1], {"b": 1}]
PAYLOADS: list[Any] = [
    None if i % 7 == 0 else {"a": VALUES[i % 14], "n": {"a b": i % 5}, "i": i} for i in range(300)
]
LABELS = [None if i % 11 == 0 else i % 6 for i in range(300)]
ITEMS = {i: (label, payload) for i, label, payload in zip(IDS, LABELS, PAYLOADS, strict=True)}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    database = Database(tmp_path_factory.mktemp("filters") / "bitcell.db")
    store = Store(database)
    collection = store.create("c", 16)
    collection.upsert(IDS[:150], CODES[:150], LABELS[:150], PAYLOADS[:150])
    store.settle()
    # Some replace others, so that old payloads lie about.
    collection.upsert(IDS[140:], CODES[140:], LABELS[140:], PAYLOADS[140:])
    yield collection
    store.close()
    database.close()


MISSING = object()


def kind(value: Any) -> Any:
    return (
        "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
    )


def holds(condition: Any, label: Any, payload: Any) -> bool:
    """What a filter means, said anew."""
    results = []
    for key, value in condition.items():
        if key == "not":
            results.append(not holds(value, label, payload))
        elif key in ("and", "or"):
            parts = [holds(part, label, payload) for part in value]
            results.append(all(parts) if key == "and" else any(parts))
        else:
            found: Any = (MISSING if label is None else label) if key == "label" else payload
            for name in key.split(".") if key != "label" else ():
                found = found.get(name, MISSING) if isinstance(found, dict) else MISSING
            if isinstance(value, dict) and "in" in value:
                wanted = value["in"]
            else:
                wanted = None if isinstance(value, dict) else [value]
            if wanted is not None:
                results.append(any(kind(found) == kind(v) and found == v for v in wanted))
            else:
                tests = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}
                results.append(
                    all(
                        kind(found) == kind(bound)
                        and getattr(
                            found.encode() if isinstance(found, str) else float(found), test
                        )(bound.encode() if isinstance(bound, str) else float(bound))
                        for test, bound in ((tests[name], b) for name, b in value.items())
                    )
                )
    return all(results)


scalars = st.sampled_from(VALUES[:12])
bounds = st.dictionaries(
    st.sampled_from(["gt", "gte", "lt", "lte"]), st.sampled_from([0, 1.5, 3, "", "é"]), min_size=1
)
labels = st.one_of(
    st.integers(0, 6),
    st.fixed_dictionaries({"in": st.lists(st.integers(0, 6), max_size=3)}),
    st.fixed_dictionaries({"gte": st.integers(0, 6)}),
)
fields = st.one_of(scalars, bounds, st.fixed_dictionaries({"in": st.lists(scalars, max_size=4)}))
leaves = st.one_of(
    st.fixed_dictionaries({"label": labels}),
    st.dictionaries(
        st.sampled_from(["a", "n.a b", "i", "nothing"]), fields, min_size=1, max_size=2
    ),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(conditions)
def test_filters_mean_what_they_say(collection: Collection, condition: Any) -> None:
    options = SearchOptions(300, where=Filter(condition))
    found = collection.search(CODES[:1], options)[0].neighbours
    expected = {i for i, (label, payload) in ITEMS.items() if holds(condition, label, payload)}
    assert {near.id for near in found} == expected


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
        ({"a": {"in": list(range(1001))}}, "at most 1000 values"),
        ({f"a{i}": 1 for i in range(65)}, "at most 64 conditions"),
    ],
)
def test_what_is_no_filter_is_refused(condition: Any, message: str) -> None:
    with pytest.raises(InvalidItems, match=message):
        Filter(condition)
    deep: Any = {"a": 1}
    for _ in range(8):
        deep = {"not": deep}
    with pytest.raises(InvalidItems, match="at most 8 levels"):
        Filter(deep)


def test_filters_hold_through_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are extended, joined, carried over to a new segment, forgotten and read anew."""
    monkeypatch.setattr(rows, "_SMALLEST_TAIL", 60)
    monkeypatch.setattr(columns, "_MAX_BLOCKS", 4)
    monkeypatch.setattr(columns, "_MAX_FIELDS", 2)
    rng = np.random.default_rng(3)
    asked = [{"a": 1}, {"i": {"gte": 30, "lt": 200}}, {"n.a b": {"in": [1, 4]}}, {"a": {"lt": "z"}}]
    items: dict[str, tuple[Any, Any]] = {}
    database = Database(tmp_path / "bitcell.db")
    store = Store(database)
    store.create("c", 16)
    for turn in range(60):
        collection = store.get("c")
        some = rng.choice(300, int(rng.integers(1, 40)), replace=False)
        ids = [IDS[place] for place in some]
        if turn % 4 == 3:
            collection.delete(ids)
            items = {i: item for i, item in items.items() if i not in ids}
        else:
            each = [(LABELS[p], PAYLOADS[rng.integers(300)]) for p in some]
            collection.upsert(ids, CODES[some], *map(list, zip(*each, strict=True)))
            items |= dict(zip(ids, each, strict=True))
        if turn % 7 == 0:
            store.settle()
        if turn == 40:
            store.close()
            database.close()
            database = Database(tmp_path / "bitcell.db")
            store = Store(database)
        for condition in (asked[turn % 4], asked[turn // 4 % 4]):
            options = SearchOptions(300, where=Filter(condition))
            near = store.get("c").search(CODES[:1], options)[0].neighbours
            expected = {i for i, item in items.items() if holds(condition, *item)}
            assert {one.id for one in near} == expected
    store.close()
    database.close()


def test_numbers_and_text_are_compared_as_they_are(store: Store) -> None:
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


def test_pages_together_are_the_whole(collection: Collection) -> None:
    whole = [near.id for near in collection.search(CODES[:1], SearchOptions(300))[0].neighbours]
    pages = [
        collection.search(CODES[:1], SearchOptions(37, offset=i))[0].neighbours
        for i in range(0, 330, 37)
    ]
    assert [near.id for page in pages for near in page] == whole


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    database = Database(tmp_path / "bitcell.db")
    store = Store(database)
    yield store
    store.close()
    database.close()


def keeping(store: Store) -> tuple[Collection, np.ndarray]:
    X = np.random.default_rng(1).normal(size=(300, 16)).astype(np.float16)
    collection = store.create("k", 16, encoder="old", keep_descriptors=True)
    collection.upsert(IDS, np.packbits(X > 0, axis=1), LABELS, PAYLOADS, X)
    return collection, X


def test_reranking_is_by_true_distance_among_the_first(store: Store) -> None:
    collection, X = keeping(store)
    queries = np.random.default_rng(2).normal(size=(5, 16))
    codes = np.packbits(queries > 0, axis=1)
    first = collection.search(codes, SearchOptions(40))
    again = collection.search(codes, SearchOptions(10, rerank=40, offset=3), descriptors=queries)
    by_bits = collection.search(
        codes, SearchOptions(10, rerank=40, rerank_by="bits"), projections=queries
    )
    for x, all_, some, bits in zip(queries, first, again, by_bits, strict=True):
        rows = {near.id: X[IDS.index(near.id)].astype(float) for near in all_.neighbours}
        true = sorted(rows, key=lambda i: float(np.linalg.norm(rows[i] - x)))
        assert [near.id for near in some.neighbours] == true[3:13]
        scores = [near.score for near in some.neighbours]
        assert scores == pytest.approx([np.linalg.norm(rows[i] - x) for i in true[3:13]])
        # By bits: the squared distance of x to the signs is what orders.
        sign = {i: float(((np.where(row > 0, 1, -1) - x) ** 2).sum()) for i, row in rows.items()}
        assert [sign[near.id] for near in bits.neighbours] == pytest.approx(
            sorted(sign.values())[:10]
        )


def test_encoding_anew_takes_along_what_is_written_meanwhile(store: Store) -> None:
    old, X = keeping(store)
    begun, go_on = Event(), Event()

    def encode(rows: Any) -> Any:
        begun.set()
        assert go_on.wait(20)
        return np.packbits(np.asarray(rows)[:, :8] > 0, axis=1)

    worker = Thread(target=lambda: store.reencode("k", encode, 8, encoder="new", fingerprint="f"))
    worker.start()
    assert begun.wait(20)
    with pytest.raises(AlreadyExists, match="already being re-encoded"):
        store.reencode("k", encode, 8)
    assert old.search(CODES[:1], SearchOptions(1))[0].neighbours
    old.delete(IDS[:3])
    old.upsert(["late", IDS[5]], np.zeros((2, 2), np.uint8), [9, 9], None, -X[:2])
    go_on.set()
    worker.join()
    new = store.get("k")
    assert (new.encoder, new.fingerprint, new.n_bits, new.name) == ("new", "f", 8, "k")
    expected = dict(zip(IDS[3:], X[3:], strict=True)) | {"late": -X[0], IDS[5]: -X[1]}
    assert len(new) == len(expected)
    for ids, labels, kept in new.descriptor_batches():
        for item_id, label, row in zip(ids, labels.tolist(), kept, strict=True):
            assert (row == expected[item_id]).all()
            item = new.get(item_id)
            assert item.code == np.packbits(row[:8] > 0).tobytes()
            late = item_id in ("late", IDS[5])
            assert (label, item.payload) == (
                (9, None)
                if late
                else (-1 if ITEMS[item_id][0] is None else ITEMS[item_id][0], ITEMS[item_id][1])
            )
    with pytest.raises(Replaced):
        old.upsert(["x"], CODES[:1], None, None, X[:1])
    assert [c.name for c in store.list()] == ["k"]


def test_encoding_anew_that_fails_changes_nothing(store: Store) -> None:
    old, _ = keeping(store)

    def fail(rows: Any) -> Any:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.reencode("k", fail, 8)
    assert store.get("k") is old
    assert len(old) == 300
    store.create("bare", 8)
    with pytest.raises(InvalidItems, match="keeps no descriptors"):
        store.reencode("bare", fail, 8)
    with pytest.raises(NotFound):
        store.reencode("nobody", fail, 8)


def test_descriptors_are_given_exactly_where_they_are_kept(store: Store) -> None:
    collection, X = keeping(store)
    bare = store.create("bare", 16)
    for target, X_, message in (
        (collection, None, "give one for each item"),
        (bare, X[:1], "keeps no descriptors"),
        (collection, X[:1, :3], r"shape \(1, 16\), got \(1, 3\)"),
        (collection, X[:1] * np.inf, "finite"),
    ):
        with pytest.raises(InvalidItems, match=message):
            target.upsert(["a"], CODES[:1], None, None, X_)
