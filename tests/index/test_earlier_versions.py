"""Data of earlier versions still opens and gives the same answers.

`data` was written by the version before collections got a `SearchOptions`: a database with record
version 2, a snapshot of its collection `kept`, and in answers.json what that version answered.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from index import Database, Filter, Item, SearchOptions, Store, snapshot
from index.backend import Collection

DATA = Path(__file__).parent / "data"
ANSWERS: dict[str, Any] = json.loads((DATA / "answers.json").read_text())


def answers(collection: Collection, *, keeps_order: bool = True) -> dict[str, Any]:
    """What answers.json holds for a collection."""
    code = [[0, 0], [255, 240]]
    codes = np.array(code, np.uint8)[:, : -(-collection.n_bits // 8)]
    matching = SearchOptions(5, where=Filter({"i": {"gte": 2}}))
    items, n_items = collection.items(0, 100)
    assert n_items == len(collection)
    found: dict[str, Any] = {
        "n_bits": collection.n_bits,
        "encoder": collection.encoder,
        "fingerprint": collection.fingerprint,
        "items": n_items,
        "keep_descriptors": collection.keep_descriptors,
        "listed": [as_list(item) for item in items],
        "nearest": [
            [[n.id, n.distance, n.label, n.payload] for n in one.neighbours]
            for one in collection.search(codes, SearchOptions(5))
        ],
        "filtered": [
            [[n.id, n.distance] for n in one.neighbours]
            for one in collection.search(codes, matching)
        ],
    }
    if collection.keep_descriptors:
        ids = [item.id for item in items]
        found["descriptors"] = collection.descriptors(ids).astype(float).tolist()
    return found


def as_list(item: Item) -> list[Any]:
    return [item.id, item.code.hex(), item.label, item.payload]


def test_a_database_gives_the_same_answers(tmp_path: Path) -> None:
    path = tmp_path / "bitcell.db"
    shutil.copy(DATA / "version-2.db", path)
    for _ in range(2):
        database = Database(path)
        store = Store(database)
        assert {c.name: answers(c) for c in store.list()} == ANSWERS
        assert database.read("PRAGMA user_version") == [(4,)]
        kept = {c.name: c.descriptor_type for c in store.list()}
        assert set(kept.values()) == {None, "float16"}
        store.close()
        database.close()


def test_a_database_takes_writes(tmp_path: Path) -> None:
    shutil.copy(DATA / "version-2.db", tmp_path / "bitcell.db")
    database = Database(tmp_path / "bitcell.db")
    store = Store(database)
    collection = store.get("bare")
    collection.upsert(["x", "z"], np.array([[7], [9]], np.uint8), [1, 2], [{"ü": "é"}, None])
    collection.delete(["y"])
    assert [as_list(item) for item in collection.items(0, 9)[0]] == [
        ["x", "07", 1, {"ü": "é"}],
        ["z", "09", 2, None],
    ]
    store.close()
    database.close()


def test_a_snapshot_gives_the_same_answers(store: Store) -> None:
    restored = snapshot.read(store, DATA / "version-1.snapshot", "kept")
    assert restored.descriptor_type == "float16"
    assert not snapshot.describe(DATA / "version-1.snapshot").has_encoder
    found, expected = answers(restored), ANSWERS["kept"]
    # A snapshot does not keep the order of insertion.
    order = [found["listed"].index(item) for item in expected["listed"]]
    found["listed"] = expected["listed"]
    found["descriptors"] = [found["descriptors"][place] for place in order]
    assert found == expected
