"""Re-encoding and maintenance beside writes, and an end to both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest

from index import Collection, Database, Store, maintenance, reencoding
from index.memory.rows import Rows
from index.memory.segment import Segment

SECONDS = 20


def keeping(store: Store, n: int) -> tuple[Collection, list[str]]:
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
    old, ids = keeping(store, 3000)
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


def test_a_reencoding_that_cannot_catch_up_ends(store: Store) -> None:
    old, ids = keeping(store, 600)
    value = 1

    def encode(X: Any) -> Any:
        nonlocal value
        # The first copy and all passes after it, but not the last one, for which writes wait.
        if value <= 1 + reencoding._MAX_PASSES:
            value += 1
            put(old, ids, value)
        return X.astype(np.uint8)

    new = store.reencode("c", encode, 8)
    assert value == 2 + reencoding._MAX_PASSES
    assert {item.code for item in new.items(0, 600)[0]} == {bytes([value])}


def test_close_does_not_wait_for_maintenance_that_hangs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_PATIENCE", 0.1, raising=False)
    started, released = Event(), Event()

    def hang(*_: Any) -> None:
        started.set()
        released.wait()

    monkeypatch.setattr(Rows, "build_segment", hang)
    store = Store(database)
    store.create("c", 8)
    try:
        assert started.wait(SECONDS)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(store.close).result(timeout=SECONDS)
    finally:
        released.set()


def test_close_stops_maintenance_between_its_steps(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables of a large collection take many seconds to build."""
    started, closing, prepared = Event(), Event(), []
    prepare = Segment.prepare

    def slow_start(self: Segment, checkpoint: Any) -> None:
        started.set()
        assert closing.wait(SECONDS)
        prepare(self, checkpoint)
        prepared.append(self)

    monkeypatch.setattr(Segment, "prepare", slow_start)
    store = Store(database)
    collection = store.create("c", 8)
    assert started.wait(SECONDS)
    store._maintenance._closed.set()
    closing.set()
    store.close()
    assert prepared == []
    assert not store._maintenance._thread.is_alive()
    assert not collection._state.rows._segment.is_prepared


def test_a_build_that_is_given_up_changes_nothing(store: Store) -> None:
    collection = store.create("c", 8)
    store.settle()
    rows = collection._state.rows
    collection.upsert(["a", "b"], np.array([[1], [2]], np.uint8))

    class GivenUp(Exception):
        pass

    steps = 0

    def give_up_at_the_last() -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise GivenUp

    before = rows._segment
    with pytest.raises(GivenUp):
        rows.build_segment(collection._state.database.exclusive(), give_up_at_the_last)
    assert rows._segment is before
    assert [item.id for item in collection.items(0, 9)[0]] == ["a", "b"]
    rows.build_segment(collection._state.database.exclusive())
    assert rows._segment is not before
    assert [item.id for item in collection.items(0, 9)[0]] == ["a", "b"]
