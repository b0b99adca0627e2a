"""Maintenance ends when it is told to, and leaves everything as it was."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from index import Store, maintenance
from index.memory.rows import Rows
from index.memory.segment import Segment
from tests.index.conftest import opened

SECONDS = 20


def test_close_does_not_wait_for_maintenance_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_PATIENCE", 0.1)
    started, released = Event(), Event()

    def hang(*_: Any) -> None:
        started.set()
        released.wait()

    monkeypatch.setattr(Rows, "build_segment", hang)
    with opened(tmp_path / "bitcell.db") as (_, store):
        store.create("c", 8)
        try:
            assert started.wait(SECONDS)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(store.close).result(timeout=SECONDS)
        finally:
            released.set()


def test_close_stops_maintenance_between_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables of a large collection take many seconds to build."""
    started, closing = Event(), Event()
    prepare = Segment.prepare

    def wait_and_prepare(self: Segment, checkpoint: Any) -> None:
        started.set()
        assert closing.wait(SECONDS)
        prepare(self, checkpoint)

    monkeypatch.setattr(Segment, "prepare", wait_and_prepare)
    with opened(tmp_path / "bitcell.db") as (_, store):
        collection = store.create("c", 8)
        assert started.wait(SECONDS)
        store._maintenance._closed.set()
        closing.set()
        store.close()
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
