"""Reranking, and the descriptors that it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from index import Collection, Filter, InvalidItems, SearchOptions, Store
from tests.index.items import CODES, IDS, make_keeping


def test_the_nearest_are_reranked_by_the_finer_distance(store: Store) -> None:
    collection, X = make_keeping(store)
    queries = np.random.default_rng(2).normal(size=(5, 16))
    codes = np.packbits(queries > 0, axis=1)
    first = collection.search(codes, SearchOptions(40))
    again = collection.search(codes, SearchOptions(10, rerank=40, offset=3), descriptors=queries)
    by_bits = collection.search(
        codes, SearchOptions(10, rerank=40, rerank_by="bits"), projections=queries
    )
    for x, nearest, reranked, bits in zip(queries, first, again, by_bits, strict=True):
        rows = {near.id: X[IDS.index(near.id)].astype(float) for near in nearest.neighbours}
        true = sorted(rows, key=lambda i: float(np.linalg.norm(rows[i] - x)))
        assert [near.id for near in reranked.neighbours] == true[3:13]
        scores = [near.score for near in reranked.neighbours]
        assert scores == pytest.approx([np.linalg.norm(rows[i] - x) for i in true[3:13]])
        # The asymmetric distance orders as the squared distance of x to the signs does.
        sign = {i: float(((np.where(row > 0, 1, -1) - x) ** 2).sum()) for i, row in rows.items()}
        assert [sign[near.id] for near in bits.neighbours] == pytest.approx(
            sorted(sign.values())[:10]
        )


def test_items_are_reranked_by_cosine(store: Store) -> None:
    collection, X = make_keeping(store)
    rng = np.random.default_rng(3)
    collection.upsert(["zero"], np.zeros((1, 2), np.uint8), None, None, np.zeros((1, 16)))
    queries = rng.normal(size=(5, 16)) * rng.uniform(0.1, 100, (5, 1))
    rows = {name: row.astype(float) for name, row in zip(IDS, X, strict=True)}
    options = SearchOptions(10, rerank=len(X) + 1, rerank_by="cosine")
    found = collection.search(np.packbits(queries > 0, axis=1), options, descriptors=queries)
    for x, answer in zip(queries, found, strict=True):
        distances = {
            name: 1 - row @ x / np.linalg.norm(row) / np.linalg.norm(x)
            for name, row in rows.items()
        } | {"zero": 1.0}
        nearest = sorted(distances, key=lambda name: distances[name])[:10]
        assert [near.id for near in answer.neighbours] == nearest
        scores = [near.score for near in answer.neighbours]
        assert scores == pytest.approx([distances[name] for name in nearest])


def test_by_default_reranking_is_by_descriptors_where_they_are_kept(store: Store) -> None:
    collection, X = make_keeping(store)
    bare = store.create("bare", 16)
    bare.upsert(IDS, np.packbits(X > 0, axis=1))
    queries = np.random.default_rng(2).normal(size=(2, 16))
    codes = np.packbits(queries > 0, axis=1)
    given: list[tuple[Collection, Any, dict[str, Any]]] = [
        (collection, "descriptors", {"descriptors": queries}),
        (bare, "bits", {"projections": queries}),
    ]
    for target, by, values in given:
        default = target.search(codes, SearchOptions(5, rerank=20), **values)
        explicit = SearchOptions(5, rerank=20, rerank_by=by)
        assert default == target.search(codes, explicit, **values)
        for other in ("descriptors", "projections"):
            if other not in values:
                more: dict[str, Any] = {other: queries}
                with pytest.raises(InvalidItems, match=f"reranking by {by} takes"):
                    target.search(codes, SearchOptions(5, rerank=20), **more)


def test_a_batch_has_descriptors_exactly_where_they_are_kept(store: Store) -> None:
    collection, X = make_keeping(store)
    bare = store.create("bare", 16)
    for target, X_, message in (
        (collection, None, "give one for each item"),
        (bare, X[:1], "keeps no descriptors"),
        (collection, X[:1, :3], r"shape \(1, 16\), got \(1, 3\)"),
        (collection, X[:1] * np.inf, "finite"),
    ):
        with pytest.raises(InvalidItems, match=message):
            target.upsert(["a"], CODES[:1], None, None, X_)


def test_a_query_without_neighbours_can_be_reranked(store: Store) -> None:
    collection, X = make_keeping(store)
    far = np.packbits(X[:1] <= 0, axis=1)
    none = SearchOptions(3, rerank=5, where=Filter({"label": 1000}))
    near = SearchOptions(3, rerank=5, radius=0)
    queries = np.concatenate([X[:1], -X[:1]])
    codes = np.concatenate([np.packbits(X[:1] > 0, axis=1), far])
    for options, n_found in ((near, [1, 0]), (none, [0, 0])):
        found = collection.search(codes, options, descriptors=queries)
        assert [len(one.neighbours) for one in found] == n_found
        found = collection.search(codes, replace(options, rerank_by="bits"), projections=queries)
        assert [len(one.neighbours) for one in found] == n_found
    empty = store.create("empty", 16, keep_descriptors=True)
    for one in empty.search(codes, SearchOptions(3, rerank=5), descriptors=queries):
        assert one.neighbours == []
    assert collection.descriptors([]).shape == (0, 16)
    assert empty.descriptors([]).shape == (0, 0)
