"""A drop or a re-encoding before any single read of a longer call: never a mixture, never a bug.

Each call is repeated with the collection removed, and its items deleted, before its first read of
the record, its second, and so on.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from index import Collection, Filter, NotFound, Replaced, SearchOptions, Store, snapshot
from index.storage.record import Record

N = 20
X = np.arange(2 * N, dtype=np.float16).reshape(N, 2)
CODES = np.arange(N, dtype=np.uint8)[:, None]
IDS = [f"{i:02}" for i in range(N)]


def fill(store: Store) -> Collection:
    collection = store.create("c", 8, keep_descriptors=True)
    collection.upsert(IDS, CODES, range(N), [{"i": i} for i in range(N)], X)
    return collection


def written(collection: Collection) -> bytes:
    file = io.BytesIO()
    assert snapshot.write(collection, file) == N
    return file.getvalue()


def exported(collection: Collection) -> Any:
    return [
        (batch.ids, batch.labels.tolist(), batch.descriptors.tolist())
        for batch in collection.descriptor_batches()
    ]


CALLS: dict[str, Callable[[Collection], Any]] = {
    "snapshot": written,
    "copy for a job": exported,
    "page": lambda c: c.items(0, N),
    "item": lambda c: c.get("07"),
    "descriptors": lambda c: c.descriptors(IDS).tolist(),
    "statistics": lambda c: c.sample_codes(N).codes.tolist(),
    "query": lambda c: c.search(CODES[:2], SearchOptions(N)),
    "filter": lambda c: c.search(CODES[:2], SearchOptions(N, where=Filter({"i": {"gte": 0}}))),
    "rerank": lambda c: c.search(
        CODES[:2], SearchOptions(N, rerank=N, rerank_by="descriptors"), descriptors=X[:2]
    ),
}


def drop(store: Store) -> None:
    store.drop("c")


def reencode(store: Store) -> None:
    store.reencode("c", lambda X: np.full((len(X), 1), 255, np.uint8), 8)


class Overtaken:
    """Counts the reads of a collection's record, and removes the collection before one of them."""

    def __init__(self, collection: Collection, place: int, remove: Callable[[], None]) -> None:
        self.reads = 0
        self.place, self.remove = place, remove
        self.record = collection._state.record

    def note_read(self) -> None:
        self.reads += 1
        if self.reads == self.place:
            self.reads += 1000  # A re-encoding reads the same record.
            self.remove()
            self.reads -= 1000

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        for method in ("payload_bytes", "descriptors"):
            read = getattr(Record, method)

            def overtaken(record: Record, *serials: Any, read: Any = read) -> Any:
                if record is self.record:
                    self.note_read()
                return read(record, *serials)

            patch.setattr(Record, method, overtaken)


@pytest.mark.parametrize(("remove", "error"), [(drop, NotFound), (reencode, Replaced)])
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_overtaken_is_refused_or_whole(
    call: str,
    remove: Callable[[Store], None],
    error: type[Exception],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Several blocks and batches.
    monkeypatch.setattr("index.snapshot._STEP", 4)
    monkeypatch.setattr("index.snapshot.MAX_ITEMS", 8)
    monkeypatch.setattr("index.collection._CHUNK", 8)

    def remove_all() -> None:
        remove(store)
        store.settle()

    work = CALLS[call]
    expected, place, refused = work(fill(store)), 0, 0
    while True:
        store.drop("c")
        place += 1
        overtaken = Overtaken(fill(store), place, remove_all)
        with monkeypatch.context() as patch:
            overtaken.patch(patch)
            try:
                assert work(store.get("c")) == expected
            except error:
                refused += 1
        if overtaken.reads < place:
            break
        if not store.list():
            fill(store)
    assert refused == place - 1
    assert refused >= {"snapshot": 8, "copy for a job": 3, "statistics": 0}.get(call, 1)
