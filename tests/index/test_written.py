"""What a collection says of its writes: only those that searches see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from index import Store
from index.storage.record import Record


def test_a_write_counts_once_searches_see_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = store.create("c", 8)
    seen: list[tuple[int, int, int]] = []

    def state() -> tuple[int, int, int]:
        return collection.written, collection.version, len(collection)

    insert = Record.insert

    def recorded(self: Record, *args: Any) -> Any:
        serials = insert(self, *args)
        seen.append(state())
        return serials

    monkeypatch.setattr(Record, "insert", recorded)
    before = state()
    collection.upsert(range(5), np.zeros((5, 1), np.uint8))
    after = state()
    collection.upsert(range(2), np.ones((2, 1), np.uint8))
    assert seen == [before, after]
    written, version, n = state()
    assert (written, n) == (7, 5)
    collection.delete([0])
    assert (collection.written, len(collection)) == (7, 4)
    assert before[1] < after[1] < version < collection.version
