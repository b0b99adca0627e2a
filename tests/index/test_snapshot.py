"""Snapshots: complete, of one moment, and with checksums."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from bitcodes import to_words
from index import AlreadyExists, BadSnapshot, Database, Store, snapshot
from index.backend import Collection
from tests.index import snapshot_blocks

X = np.random.default_rng(0).normal(size=(5000, 12)).astype(np.float16)
CODES = np.packbits(X > 0, axis=1)
IDS = [f"é{i}" for i in range(5000)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    database = Database(tmp_path / "bitcell.db")
    store = Store(database)
    collection = store.create("c", 12, encoder="e", fingerprint="f", keep_descriptors=True)
    payloads = [{"i": i} if i % 3 else None for i in range(5000)]
    collection.upsert(IDS, CODES, np.arange(5000) % 7 - 1, payloads, X)
    collection.delete(IDS[:100])
    yield store
    store.close()
    database.close()


def everything(collection: Collection) -> list[Any]:
    """Return all items, in the order of insertion."""
    items, n = collection.items(0, len(collection))
    descriptors = collection.descriptors([item.id for item in items])
    assert len(items) == n == len(collection)
    return list(zip(items, descriptors.tolist(), strict=True))


def write(collection: Collection, path: Path) -> int:
    with path.open("wb") as file:
        return snapshot.write(collection, file)


def test_a_restored_collection_has_all_items(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "c.snapshot"
    store.settle()  # The rows in memory are then in another order.
    assert write(store.get("c"), path) == 4900
    back = snapshot.read(store, path, "back")
    assert (back.name, back.encoder, back.fingerprint, back.n_bits) == ("back", "e", "f", 12)
    assert back.keep_descriptors
    assert everything(back) == everything(store.get("c"))
    with pytest.raises(AlreadyExists):
        snapshot.read(store, path, "back")
    assert [c.name for c in store.list()] == ["back", "c"]


def test_lone_surrogates_of_earlier_versions_are_restored(store: Store, tmp_path: Path) -> None:
    collection = store.create("odd", 8)
    text = '{"text":"\\ud800"}'
    collection._state.put(["a"], to_words(CODES[:1, :1]), np.array([-1]), [text], None)
    write(collection, tmp_path / "odd.snapshot")
    back = snapshot.read(store, tmp_path / "odd.snapshot", "back")
    assert back.get("a").payload == {"text": "\ud800"}


def test_a_snapshot_is_of_one_moment(store: Store, tmp_path: Path) -> None:
    collection = store.get("c")
    done = False

    def replace_all() -> None:
        while not done:
            collection.upsert(IDS, CODES, np.full(5000, 3), None, X)
            collection.upsert(IDS, CODES, np.full(5000, 4), None, X)

    collection.upsert(IDS, CODES, np.full(5000, 4), None, X)
    writer = Thread(target=replace_all)
    writer.start()
    try:
        for i in range(5):
            write(collection, tmp_path / f"{i}.snapshot")
    finally:
        done = True
        writer.join()
    for i in range(5):
        back = snapshot.read(store, tmp_path / f"{i}.snapshot", f"back{i}")
        labels = np.concatenate([batch.labels for batch in back.descriptor_batches()])
        assert len(labels) == 5000
        assert len(set(labels.tolist())) == 1


def test_one_flipped_bit_anywhere_is_refused(store: Store, tmp_path: Path) -> None:
    few = store.create("few", 12, encoder="e", fingerprint="f", keep_descriptors=True)
    few.upsert(
        IDS[:300], CODES[:300], np.arange(300) % 7 - 1, [{"i": i} for i in range(300)], X[:300]
    )
    path = tmp_path / "c.snapshot"
    write(few, path)
    data = path.read_bytes()
    ends = [*range(40), *range(len(data) - 30, len(data))]
    places = np.random.default_rng(0).integers(0, len(data), 40).tolist() + ends
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(BadSnapshot, match=r"c\.snapshot is"):
            snapshot.read(store, path, "back")
    for cut in (0, 5, 30, 2000, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(BadSnapshot, match=r"c\.snapshot is"):
            snapshot.read(store, path, "back")
    path.write_bytes(data + b"x")
    with pytest.raises(BadSnapshot, match="more data follows"):
        snapshot.read(store, path, "back")
    assert [c.name for c in store.list()] == ["c", "few"]


@pytest.mark.parametrize("block", [0, 1])
def test_json_that_is_nested_too_deeply_is_refused(
    block: int, store: Store, tmp_path: Path
) -> None:
    about = {"n_bits": 8, "encoder": "", "fingerprint": "", "keep_descriptors": False}
    deep = b"[" * 100_000
    items = struct.pack("<Q", len(deep)) + deep + 3 * struct.pack("<Q", 0)
    data, checksum = snapshot.MAGIC, 0
    for content in (deep if block == 0 else json.dumps(about).encode(), items, b""):
        checksum = crc32(content, checksum)
        data += struct.pack("<QI", len(content), checksum) + content
    path = tmp_path / "deep.snapshot"
    path.write_bytes(data)
    with pytest.raises(BadSnapshot, match=r"deep\.snapshot is damaged"):
        snapshot.read(store, path, "back")
    assert [c.name for c in store.list()] == ["c"]


def test_checking_a_file_takes_no_memory_and_finds_what_reading_finds(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "c.snapshot"
    write(store.get("c"), path)
    assert snapshot.check(path) == snapshot.describe(path)
    data = path.read_bytes()
    for place in (20, len(data) // 2, len(data) - 20):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(BadSnapshot, match=r"c\.snapshot is"):
            snapshot.check(path)
    about, *_ = snapshot_blocks.split(data)
    path.write_bytes(snapshot_blocks.join([about, bytes(100 << 20)]))
    tracemalloc.start()
    try:
        snapshot.check(path)
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()
    # A sparse file that claims, and has, a block which is too large to be held.
    for version in (1, 2):
        with path.open("wb") as file:
            file.write(snapshot_blocks.join([about], version)[:-12])
            file.write(struct.pack("<QI", 500 << 20, 0))
            file.truncate(600 << 20)
        with pytest.raises(BadSnapshot, match="a block has 524288000 bytes"):
            snapshot.check(path)
