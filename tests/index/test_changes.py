"""Deletion, count and list by filter, and patches: compared with a dictionary of items."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import Collection, Database, DiskError, Filter, Full, InvalidItems, NotFound, Store
from index.changes import merge_patch
from index.memory import rows
from index.storage.record import Record
from tests.index.conftest import opened
from tests.index.filter_oracle import holds
from tests.index.items import CODES, IDS, LABELS, PAYLOADS, make_keeping

FILTERS: list[Any] = [
    {"label": 2},
    {"a": {"in": [1, "é", None]}},
    {"i": {"gte": 30, "lt": 200}},
    {"not": {"tags": {"any": [1, True]}}},
    {"id": {"in": IDS[::3]}, "new": {"contains": 1}},
    {"or": [{"n.deep.er": 1}, {"label": {"gte": 4}}]},
]
PATCHES: list[Any] = [
    {"label": 3},
    {"label": None},
    {"label": -1, "payload": None},
    {"payload": {"a": None, "new": [1, 2]}},
    {"payload": {"n": {"deep": {"er": 1}, "a b": None}}},
    {"payload": {"n": 5}},
    {"label": 0, "payload": {"i": -1}},
]


@pytest.fixture
def collection(store: Store) -> Collection:
    collection = store.create("c", 16)
    collection.upsert(IDS, CODES, LABELS, PAYLOADS)
    store.settle()
    return collection


def patched(item: tuple[Any, Any], patch: Any) -> tuple[Any, Any]:
    """What a patch makes of label and payload, one field after another."""
    label, payload = deepcopy(item)
    if "label" in patch:
        label = None if patch["label"] in (None, -1) else patch["label"]
    if "payload" in patch and patch["payload"] is None:
        payload = None
    elif "payload" in patch:
        payload = {} if payload is None else payload
        todo = [(payload, patch["payload"])]
        while todo:
            old, new = todo.pop()
            for name, value in new.items():
                if isinstance(value, dict):
                    old[name] = old[name] if isinstance(old.get(name), dict) else {}
                    todo.append((old[name], value))
                elif value is None:
                    old.pop(name, None)
                else:
                    old[name] = value
    return label, payload


def test_any_sequence_of_writes_equals_a_dictionary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_SMALLEST_TAIL", 60)
    rng = np.random.default_rng(5)
    items: dict[str, tuple[Any, Any]] = {}
    codes: dict[str, bytes] = {}
    for _ in range(2):
        with opened(tmp_path / "bitcell.db") as (_, store):
            collection = store.get("c") if items else store.create("c", 16)
            for turn in range(40):
                where = FILTERS[turn % len(FILTERS)]
                write(collection, rng, turn, items, codes, where)
                if turn % 9 == 0:
                    store.settle()
                check(collection, items, codes, where)


def write(collection: Collection, rng: Any, turn: int, items: Any, codes: Any, where: Any) -> None:
    """Write to a collection and in the same way to the dictionaries."""
    if turn % 4 == 0:
        places = rng.choice(300, 40, replace=False).tolist()
        ids = [IDS[place] for place in places]
        new = [(LABELS[p], PAYLOADS[rng.integers(300)]) for p in places]
        collection.upsert(ids, CODES[places], *map(list, zip(*new, strict=True)))
        items |= dict(zip(ids, new, strict=True))
        codes |= {IDS[place]: CODES[place].tobytes() for place in places}
    elif turn % 4 == 3:
        gone = [i for i, item in items.items() if holds(where, i, *item)]
        if len(gone) < len(items) / 2:
            assert collection.delete_matching(Filter(where)) == len(gone)
            for item_id in gone:
                del items[item_id], codes[item_id]
    else:
        ids = rng.choice(sorted(items), min(len(items), 15), replace=False).tolist()
        patches = [PATCHES[place] for place in rng.integers(0, len(PATCHES), len(ids))]
        items |= {i: patched(items[i], each) for i, each in zip(ids, patches, strict=True)}
        collection.patch(ids[1:], patches[1:])
        item = collection.patch_one(ids[0], patches[0])
        assert item == collection.get(ids[0])


def check(collection: Collection, items: Any, codes: Any, where: Any) -> None:
    found, _ = collection.items(0, 1000)
    assert {each.id: (each.label, each.payload) for each in found} == items
    assert {each.id: each.code for each in found} == codes
    expected = [each.id for each in found if holds(where, each.id, each.label, each.payload)]
    assert collection.count(Filter(where)) == len(expected)
    pages = [collection.items(at, 7, where=Filter(where)) for at in range(0, len(expected) + 7, 7)]
    assert [item.id for page, _ in pages for item in page] == expected
    assert {of for _, of in pages} == {len(expected)}


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [  # Appendix A of RFC 7396.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_is_that_of_the_rfc(target: Any, patch: Any, expected: Any) -> None:
    before = deepcopy(target)
    assert merge_patch(target, patch) == expected
    assert target == before


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({}, "expected a label, a payload or both to change item 1"),
        ([], "expected a label, a payload or both"),
        ({"code": "00"}, "expected a label, a payload or both"),
        ({"label": 1.5}, "a label is an integer"),
        ({"label": True}, "a label is an integer"),
        ({"payload": [1]}, "a payload is a JSON object; that of item 1"),
        ({"payload": {"a": float("nan")}}, "is not JSON"),
        ({"payload": {"a": "\ud800"}}, "lone surrogate"),
        ({"payload": {"b": "x" * 40_000}}, "at most 65536 bytes; that of item 'b'"),
        ({"payload": {"b": json.loads("[" * 100 + "]" * 100)}}, "100 levels"),
    ],
)
def test_a_wrong_patch_changes_nothing(store: Store, patch: Any, message: str) -> None:
    collection = store.create("c", 8)
    collection.upsert(["a", "b"], np.zeros((2, 1), np.uint8), None, [{"a": "x" * 40_000}] * 2)
    before = collection.items(0, 2)
    with pytest.raises(InvalidItems, match=message) as caught:
        collection.patch(["a", "b"], [{"label": 1}, patch])
    assert caught.value.row == 1
    with pytest.raises(NotFound, match="no item 'nobody'"):
        collection.patch(["a", "nobody"], [{"label": 1}] * 2)
    with pytest.raises(InvalidItems, match="'a' occurs twice"):
        collection.patch(["a", "a"], [{"label": 1}] * 2)
    with pytest.raises(InvalidItems, match="expected 1 patches"):
        collection.patch(["a"], [])
    assert collection.items(0, 2) == before
    collection.patch([], [])


def test_a_patch_that_rewrites_too_much_is_given_up(store: Store, collection: Collection) -> None:
    """A short request must not make the service write without limit while others wait."""
    counted: list[int] = []

    def count(n_bytes: int) -> None:
        counted.append(n_bytes)
        if sum(counted) > 100_000:
            raise GivenUp

    big = store.create("big", 16)
    big.upsert(IDS, CODES, None, [{"x": "x" * 1000}] * 300)
    with pytest.raises(GivenUp):
        big.patch(IDS, [{"label": 1}] * 300, count)
    assert big.count(Filter({"label": 1})) == 0
    assert 100_000 < sum(counted) < 300_000
    counted.clear()
    keeping, X = make_keeping(store)
    keeping.patch(IDS, [{"payload": None}] * 300, count)
    keeping.patch(IDS, [{"label": 1}] * 300, count)
    assert counted[-1] == 4 * X.size


def test_a_patch_that_fails_at_its_last_read_is_not_published_later(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on disk, and not what was staged before the error, is what readers see."""
    before, reads = collection.items(0, 300), 0
    payload_bytes = Record.payload_bytes

    def failing(*args: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 2:
            raise DiskError("cannot be read")
        return payload_bytes(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "payload_bytes", failing)
        with pytest.raises(DiskError):
            collection.patch_one(IDS[1], {"label": 99})
    collection.upsert(["new"], CODES[:1])
    collection.delete(["new"])
    assert collection.items(0, 300) == before


def test_patches_at_the_same_time_lose_no_update(collection: Collection) -> None:
    ids = IDS[:20]
    expected = [patched((LABELS[i], PAYLOADS[i]), {"payload": {}})[1] for i in range(20)]

    def client(me: int) -> None:
        for turn in range(15):
            collection.patch(ids, [{"payload": {f"client-{me}": {"turn": turn}}}] * 20)
            collection.upsert([f"more-{me}"], CODES[:1])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(client, range(4)))
    clients = {f"client-{me}": {"turn": 14} for me in range(4)}
    assert [collection.get(i).payload for i in ids] == [each | clients for each in expected]
    assert len(collection) == 304


def test_a_batch_of_patches_is_seen_as_a_whole(collection: Collection) -> None:
    ids, is_done = IDS[:50], False
    collection.patch(ids, [{"label": 0, "payload": {"turn": 0}}] * 50)

    def write() -> None:
        nonlocal is_done
        for turn in range(40):
            collection.patch(ids, [{"label": turn, "payload": {"turn": turn}}] * 50)
        is_done = True

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not is_done and not writing.done():
            found, n = collection.items(0, 300, where=Filter({"id": {"in": ids}}))
            assert n == 50
            assert len({each.label for each in found}) == 1
            assert {(each.payload or {})["turn"] for each in found} == {found[0].label}
        writing.result()


def once(work: Callable[[], object]) -> Callable[[], None]:
    """Return a checkpoint that works at its first call."""
    todo = [work]

    def checkpoint() -> None:
        if todo:
            todo.pop()()

    return checkpoint


@pytest.mark.parametrize("n_new", [1, 1500])
@pytest.mark.parametrize("rebuild", [False, True])
def test_what_is_written_while_a_filter_is_tested_counts(
    collection: Collection, n_new: int, rebuild: bool
) -> None:
    """The items that go are those that match when they go, not those that matched before."""
    state = collection._state
    segment = state.rows.view().segment
    matching = [
        i for i, payload in zip(IDS, PAYLOADS, strict=True) if payload and payload["id"] == 1
    ]

    def write() -> None:
        collection.patch(matching[:2], [{"payload": {"id": 2}}] * 2)
        collection.delete(matching[2:3])
        collection.upsert(
            [f"new-{i}" for i in range(n_new)],
            np.tile(CODES[:1], (n_new, 1)),
            None,
            [{"id": 1}] * n_new,
        )
        if rebuild:
            state.rows.build_segment(state.database.exclusive())
        assert (state.rows.view().segment is not segment) == rebuild

    n = len(collection)
    deleted = collection.delete_matching(Filter({".id": 1}), once(write))
    assert deleted == len(matching) - 3 + n_new
    assert len(collection) == n - len(matching) + 2
    assert collection.count(Filter({".id": 1})) == 0
    assert [(collection.get(i).payload or {})["id"] for i in matching[:2]] == [2, 2]


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_deletion_ends_although_others_never_stop_writing(
    store: Store, collection: Collection, monkeypatch: pytest.MonkeyPatch, rebuild: bool
) -> None:
    n_written = 0
    if rebuild:
        monkeypatch.setattr(rows, "_SMALLEST_TAIL", 1)

    def write() -> None:
        nonlocal n_written
        if collection._state.database._alone:
            return
        assert n_written < 5
        ids = [f"new-{n_written}-{i}" for i in range(1001)]
        collection.upsert(ids, np.tile(CODES[:1], (1001, 1)), [7] * 1001)
        n_written += 1
        if rebuild:
            store.settle()

    assert collection.delete_matching(Filter({"label": 7, "not": {"id": "x"}}), write) > 0
    assert n_written == 5
    assert len(collection) == 300


class GivenUp(Exception):
    pass


def give_up() -> None:
    raise GivenUp


def test_a_deletion_that_is_given_up_deletes_nothing(collection: Collection) -> None:
    for work in (collection.delete_matching, collection.count):
        with pytest.raises(GivenUp):
            work(Filter({"i": {"gte": 0}}), give_up)
    with pytest.raises(GivenUp):
        collection.items(0, 10, where=Filter({"i": 3}), checkpoint=give_up)
    assert len(collection) == 300
    # Nothing is held any more.
    assert collection.delete_matching(Filter({"label": 1})) == LABELS.count(1)
    assert collection.delete_matching(Filter({"label": 1})) == 0


def test_a_collection_that_is_dropped_meanwhile_is_not_found(
    store: Store, collection: Collection
) -> None:
    with pytest.raises(NotFound, match="no collection 'c'"):
        collection.delete_matching(Filter({"i": 3}), once(lambda: store.drop("c")))
    with pytest.raises(NotFound, match="no collection 'c'"):
        collection.count(Filter({"label": 1}))
    with pytest.raises(NotFound, match="no collection 'c'"):
        collection.patch(["a"], [{"label": 1}])


def test_a_full_disk_changes_nothing(collection: Collection, database: Database) -> None:
    before = collection.items(0, 300)
    (pages,) = database.read("PRAGMA page_count")[0]
    database._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Full):
        collection.patch(IDS, [{"payload": {"more": "x" * 1000}}] * 300)
    database._connection.execute("PRAGMA max_page_count = 1000000")
    assert collection.items(0, 300) == before
    assert collection.patch_one(IDS[0], {"label": 99}).label == 99


def test_reencoding_keeps_what_changes_meanwhile(store: Store) -> None:
    collection, X = make_keeping(store)
    by_id = dict(zip(IDS, X, strict=True))

    def write() -> None:
        collection.patch(IDS[:5], [{"label": 50, "payload": {"late": True}}] * 5)
        collection.delete_matching(Filter({"id": {"in": IDS[5:9]}}))

    writing = once(write)

    def encode(descriptors: Any) -> Any:
        writing()
        return np.packbits(descriptors < 0, axis=1)

    new = store.reencode("k", encode, 16)
    assert len(new) == 296
    for item_id in IDS[:5]:
        item = new.get(item_id)
        assert (item.label, (item.payload or {})["late"]) == (50, True)
        np.testing.assert_array_equal(new.descriptors([item_id])[0], by_id[item_id])
        assert item.code == np.packbits(by_id[item_id] < 0).tobytes()
