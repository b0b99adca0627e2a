"""Searches that take too long can be given up between their steps."""

from __future__ import annotations

from collections.abc import Iterator
from threading import get_ident
from typing import Any

import numpy as np
import pytest

from index import Collection, Database, SearchOptions, Store
from index.search import exact, flat_scan, rerank

N = 40_000
QUERIES = np.random.default_rng(1).integers(0, 256, (300, 8), np.uint8)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """A collection of clusters, so that it has tables."""
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 256, (N // 20, 8), np.uint8)
    centres[: len(QUERIES)] = QUERIES
    codes = np.repeat(centres, 20, axis=0)
    for _ in range(4):
        codes[np.arange(N), rng.integers(0, 8, N)] ^= np.uint8(1) << rng.integers(0, 8, N, np.uint8)
    database = Database(tmp_path_factory.mktemp("giving_up") / "bitcell.db")
    store = Store(database)
    collection = store.create("c", 64, keep_descriptors=True)
    collection.upsert([f"{i:05}" for i in range(N)], codes, None, None, np.zeros((N, 2)))
    store.settle()
    yield collection
    store.close()
    database.close()


class GivenUp(Exception):
    pass


def steps_of(collection: Collection, n_queries: int, options: SearchOptions, **more: Any) -> int:
    """Return how often a search calls `checkpoint`; give it up at each of some of these calls."""
    codes = QUERIES[:n_queries]
    calls: list[int] = []
    expected = collection.search(codes, options, **more)
    checked = collection.search(
        codes, options, checkpoint=lambda: calls.append(get_ident()), **more
    )
    assert checked == expected
    for last in np.linspace(1, len(calls), 3, dtype=int).tolist():
        left = iter(range(last - 1))

        def checkpoint(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise GivenUp

        with pytest.raises(GivenUp):
            collection.search(codes, options, checkpoint=checkpoint, **more)
    return len(calls)


def test_a_flat_scan(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact._Search, "tables", lambda *_: None)
    assert steps_of(collection, 1, SearchOptions(5)) >= 1
    # With Faiss, by blocks of queries.
    assert steps_of(collection, 300, SearchOptions(5)) >= 300 // exact._SCAN_BLOCK
    # One by one, in threads.
    monkeypatch.setattr(flat_scan, "_MAX_HEAP", 0)
    assert steps_of(collection, 300, SearchOptions(5)) >= 300


def test_lookups_in_tables(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = collection._state.rows.view().segment.tables
    assert tables is not None
    monkeypatch.setattr(exact._Search, "tables", lambda *_: tables)
    monkeypatch.setattr(flat_scan, "scan", lambda *_: flat_scan.Hits.join([]))
    few = steps_of(collection, 10, SearchOptions(5))
    assert few > 1
    # In threads.
    assert steps_of(collection, 300, SearchOptions(5)) > few


@pytest.mark.parametrize("by", ["descriptors", "bits"])
def test_reranking(by: Any, collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerank, "_BLOCK", 50)
    values = np.ones((2, 2 if by == "descriptors" else 64))
    more: dict[str, Any] = {"descriptors" if by == "descriptors" else "projections": values}
    options = SearchOptions(5, rerank=1000, rerank_by=by, payloads=False)
    assert steps_of(collection, 2, options, **more) >= 2 * 1000 // 50
