"""The depths at which searches by Hamming distance have the true neighbours of items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from index import InvalidItems, SearchOptions, Store
from index.search import depth
from index.state import State


def test_the_depths_are_those_of_searches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "_DESCRIPTORS", 37)
    monkeypatch.setattr(depth, "_CODES", 41)
    X = np.random.default_rng(0).normal(size=(210, 12)).astype(np.float32)
    codes = np.packbits(X > 0, axis=1)
    collection = store.create("c", 12, keep_descriptors=True)
    ids = [f"i{i:03}" for i in range(210)]
    collection.upsert(ids, codes, descriptors=X)
    collection.delete(ids[200:])
    X, codes = X[:200], codes[:200]
    found = collection.neighbour_ranks(200, 4)
    assert found.shape == (200, 4)
    # The queries come in an order of their own: compare what they have in common.
    true = np.linalg.norm(X[:, None].astype(float) - X, axis=2)
    np.fill_diagonal(true, np.inf)
    hamming = np.bitwise_count(codes[:, None] ^ codes).sum(axis=2)
    expected = []
    for i, near in enumerate(np.argsort(true, axis=1)[:, :4]):
        expected.append([(hamming[i] <= hamming[i, j]).sum() - 1 for j in near])
        within = collection.search(codes[i : i + 1], SearchOptions(200, radius=hamming[i, near[0]]))
        assert len(within[0].neighbours) - 1 == expected[-1][0]
    assert sorted(found.tolist()) == sorted(expected)


def test_few_items_and_none_that_are_kept(store: Store) -> None:
    collection = store.create("c", 8, keep_descriptors=True)
    assert collection.neighbour_ranks(10, 5).shape == (0, 0)
    for n in (1, 2, 3):
        collection.upsert([f"{n}"], np.zeros((1, 1), np.uint8), descriptors=[[n]])
        assert collection.neighbour_ranks(10, 5).tolist() == [[n - 1] * (n - 1)] * n
    with pytest.raises(InvalidItems, match="keeps no descriptors"):
        store.create("bare", 8).neighbour_ranks(10, 5)


def test_many_items_are_read_in_part_and_counted_in_full(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 8)).astype(np.float32)
    codes = np.packbits(X @ rng.normal(size=(8, 64)) > 0, axis=1)
    collection = store.create("c", 64, keep_descriptors=True)
    collection.upsert(range(1000), codes, descriptors=X)
    exact = np.sort(collection.neighbour_ranks(100, 3), axis=0)
    read: list[int] = []
    descriptors = State.descriptors

    def recorded(self: State, view: Any, rows: Any) -> Any:
        read.append(len(rows))
        return descriptors(self, view, rows)

    monkeypatch.setattr(State, "descriptors", recorded)
    monkeypatch.setattr(depth, "_MOST_READ", 250)
    found = np.sort(collection.neighbour_ranks(100, 3), axis=0)
    assert sum(read) == 100 + 250
    # The nearest of a quarter are about as far as the fourth nearest of all.
    assert (found[[50, 90]] >= exact[[50, 90]]).all()
    assert (found[50] <= 8 * exact[50]).all()
