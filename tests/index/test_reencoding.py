"""Re-encoding a collection while it serves and takes writes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from index import (
    AlreadyExists,
    Collection,
    InvalidItems,
    NotFound,
    Replaced,
    SearchOptions,
    Store,
    reencoding,
)
from tests.index.items import CODES, IDS, ITEMS, make_keeping


def test_a_reencoding_includes_what_is_written_meanwhile(store: Store) -> None:
    old, X = make_keeping(store)
    started, proceed = Event(), Event()

    def encode(rows: Any) -> Any:
        started.set()
        assert proceed.wait(20)
        return np.packbits(np.asarray(rows)[:, :8] > 0, axis=1)

    worker = Thread(target=lambda: store.reencode("k", encode, 8, encoder="new", fingerprint="f"))
    worker.start()
    assert started.wait(20)
    with pytest.raises(AlreadyExists, match="already being re-encoded"):
        store.reencode("k", encode, 8)
    assert old.search(CODES[:1], SearchOptions(1))[0].neighbours
    old.delete(IDS[:3])
    old.upsert(["late", IDS[5]], np.zeros((2, 2), np.uint8), [9, 9], None, -X[:2])
    proceed.set()
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


def test_a_reencoding_that_fails_changes_nothing(store: Store) -> None:
    old, _ = make_keeping(store)

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


def make_large(store: Store, n: int) -> tuple[Collection, list[str]]:
    """Make a collection of n items whose codes are their first descriptor value."""
    collection = store.create("c", 8, keep_descriptors=True)
    ids = [f"{i:05}" for i in range(n)]
    put(collection, ids, 1)
    return collection, ids


def put(collection: Collection, ids: list[str], value: int) -> None:
    X = np.full((len(ids), 1), value, np.float16)
    collection.upsert(ids, X.astype(np.uint8), None, None, X)


def test_a_collection_takes_writes_while_a_reencoding_catches_up(store: Store) -> None:
    """Only few items are encoded while writes wait."""
    old, ids = make_large(store, 3000)
    sizes: list[int] = []
    waited: list[int] = []
    with ThreadPoolExecutor(1) as pool:

        def encode(X: Any) -> Any:
            sizes.append(len(X))
            if len(sizes) == 1:
                # All of them change, which the re-encoding has to repeat.
                put(old, ids, 2)
            elif len(X) > 1000:
                write = pool.submit(put, old, ["late"], 3)
                try:
                    write.result(timeout=5)
                except TimeoutError:
                    waited.append(len(X))
            return 10 * X.astype(np.uint8)

        new = store.reencode("c", encode, 8)
    assert waited == []
    assert sum(sizes) >= 6001
    expected = dict.fromkeys(ids, b"\x14") | {"late": b"\x1e"}
    assert {item.id: item.code for item in new.items(0, 5000)[0]} == expected


def test_only_writes_to_the_collection_wait_for_the_last_pass(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reencoding, "MAX_PASSES", 1)
    old, ids = make_large(store, 600)
    other = store.create("other", 8)
    value = 1
    done: list[Any] = []
    with ThreadPoolExecutor(2) as pool:

        def encode(X: Any) -> Any:
            nonlocal value
            if value <= 2:  # The first copy and the pass after it.
                value += 1
                put(old, ids, value)
            else:
                done.append(pool.submit(put, old, ["late"], 7))
                pool.submit(other.upsert, ["a"], np.zeros((1, 1), np.uint8)).result(20)
                done.append(done[0].done())
            return X.astype(np.uint8)

        new = store.reencode("c", encode, 8)
        with pytest.raises(Replaced):
            done[0].result(20)
    assert done[1:] == [False]
    assert {item.id: item.code for item in new.items(0, 600)[0]} == dict.fromkeys(ids, b"\x03")
    put(new, ["late"], 7)


class Overtaken:
    """An encoder during whose work all items change, in every pass but the last one.

    Writes wait for the last one, so that a change in it would never end.
    """

    def __init__(self, collection: Collection, ids: list[str]) -> None:
        self.collection, self.ids, self.value = collection, ids, 1

    def encode(self, X: Any) -> Any:
        if self.value <= 1 + reencoding.MAX_PASSES:
            self.value += 1
            put(self.collection, self.ids, self.value)
        return X.astype(np.uint8)


def test_a_reencoding_can_be_stopped_in_every_pass(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reencoding, "MAX_PASSES", 1)
    old, ids = make_large(store, 600)

    class StoppedError(Exception):
        pass

    # After the first copy, in the pass that follows, and in the one for which writes wait.
    for stop_at in (1, 2, 3):
        overtaken, calls = Overtaken(old, ids), 0

        def progress(done: int, of: int, stop_at: int = stop_at) -> None:
            nonlocal calls
            calls += 1
            assert done == of == 600
            if calls == stop_at:
                raise StoppedError

        with pytest.raises(StoppedError):
            store.reencode("c", overtaken.encode, 8, progress=progress)
        assert store.get("c") is old
        # Writes do not wait any more.
        put(old, ids, 1)


def test_a_reencoding_that_cannot_catch_up_ends(store: Store) -> None:
    overtaken = Overtaken(*make_large(store, 600))
    new = store.reencode("c", overtaken.encode, 8)
    assert overtaken.value == 2 + reencoding.MAX_PASSES
    assert {item.code for item in new.items(0, 600)[0]} == {bytes([overtaken.value])}
