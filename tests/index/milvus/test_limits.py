"""Reads and writes that are larger than Milvus takes, or that it refuses for now."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from index import InvalidItems, SearchOptions, Store, Unavailable, backend

CODES = np.random.default_rng(0).integers(0, 4, (200, 1), np.uint8)
IDS = [f"{i:03d}" for i in np.random.default_rng(1).permutation(200)]


@pytest.mark.parametrize("most", [0, 150])
def test_ties_with_payloads_stay_within_what_milvus_answers(
    store: Store, collection: backend.Collection, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    from index.milvus import search
    from index.milvus.server.connection import TooMuch
    from index.milvus.server.physical import REACH, Physical

    found = Physical.search

    def limited(self: Any, codes: Any, limit: int, fields: Any, *more: Any) -> Any:
        if not {"payload", "code"}.isdisjoint(fields) and len(codes) * limit > most:
            raise TooMuch("maxOutputSize")
        return found(self, codes, limit, fields, *more)

    monkeypatch.setattr(Physical, "search", limited)
    payloads = [{"n": i} for i in range(200)]
    both: list[backend.Collection] = [store.create("c", 8), collection]
    for each in both:
        each.upsert(IDS, CODES, None, payloads)
    options = SearchOptions(5, payloads=True, codes=True)
    for reach in (REACH, 64, 24):
        monkeypatch.setattr(search, "REACH", reach)
        expected, answers = (each.search(CODES[:2], options) for each in both)
        assert [each.neighbours for each in answers] == [each.neighbours for each in expected]


def failing(
    store: backend.Store, monkeypatch: pytest.MonkeyPatch, method: str = "Upsert", **status: Any
) -> None:
    """Let Milvus refuse calls."""
    from pymilvus.grpc_gen import common_pb2, milvus_pb2

    def refuse(request: Any, **options: Any) -> Any:
        return milvus_pb2.MutationResult(status=common_pb2.Status(**status))

    monkeypatch.setattr(store._connection._stub, method, refuse)  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [{"code": 8}, {"code": 9}, {"error_code": 49}])
def test_a_write_over_a_quota_is_not_done_and_blocks_no_read(
    module_store: backend.Store,
    collection: backend.Collection,
    monkeypatch: pytest.MonkeyPatch,
    status: dict[str, Any],
) -> None:
    collection.upsert(["a"], CODES[:1], [1])
    with monkeypatch.context() as patched:
        failing(module_store, patched, reason="quota exceeded", **status)
        with pytest.raises(Unavailable, match=r"quota exceeded: try again later$") as raised:
            collection.upsert(["a", "b"], CODES[:2], [2, 2])
        assert raised.value.retry_after > 0
        assert collection.get("a").label == 1
    collection.upsert(["c"], CODES[:1])
    assert [(each.id, each.label) for each in collection.items(0, 9)[0]] == [("a", 1), ("c", None)]


def test_only_codes_say_that_a_write_is_refused(
    module_store: backend.Store, collection: backend.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        failing(module_store, patched, code=65_535, reason="invalid channel: lag exceeds 3 s")
        with pytest.raises(Unavailable, match="repeating it is safe"):
            collection.upsert(["a"], CODES[:1], [2])
    # Since it may have been done in part, it is repeated before it is read.
    assert collection.get("a").label == 2


def test_a_deletion_is_done_where_milvus_does_not_say_the_time(
    module_store: backend.Store, collection: backend.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.upsert(["a", "b"], CODES[:2])
    with monkeypatch.context() as patched:
        failing(module_store, patched, "AllocTimestamp", code=8)
        with pytest.raises(Unavailable, match="repeating it is safe"):
            collection.delete(["a"])
    assert [each.id for each in collection.items(0, 9)[0]] == ["b"]


def test_large_items_are_re_encoded(
    milvus_store: backend.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than one write, or one answer of Milvus, may have."""
    from index.milvus import reencoding, writes
    from index.milvus.server.connection import TooMuch
    from index.milvus.server.physical import Physical

    found = Physical.query

    def limited(self: Any, *of: Any) -> Any:
        columns = found(self, *of)
        if columns.descriptors and len(columns.ids) > 100:
            raise TooMuch("maxOutputSize")
        return columns

    old = milvus_store.create("c", 8, keep_descriptors="float16")
    X = np.random.default_rng(0).normal(size=(120, 8)).astype(np.float16)
    payloads = [{"text": "x" * (500 + i)} for i in range(120)]
    for at in (0, 30, 60, 90):
        rows = slice(at, at + 30)
        old.upsert(IDS[rows], CODES[rows], None, payloads[rows], X[rows])
    monkeypatch.setattr(Physical, "query", limited)
    monkeypatch.setattr(writes, "MAX_WRITE", 25_000)
    monkeypatch.setattr(reencoding, "_SIZE", 10_000, raising=False)
    monkeypatch.setattr(reencoding, "FEW", 50, raising=False)
    calls = 0

    def encode(batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            # What changes meanwhile is as large.
            for at in (0, 30):
                rows = slice(at, at + 30)
                old.upsert(IDS[rows], CODES[rows], None, payloads[rows], X[rows])
        return np.packbits(batch[:, :3] > 0, axis=1)

    new = milvus_store.reencode("c", encode, 3, encoder="other")
    items, n = new.items(0, 200)
    assert n == 120
    assert {each.id: each.payload for each in items} == dict(zip(IDS, payloads, strict=False))


@pytest.mark.parametrize(
    "url",
    [
        "s3cret@host:19530",
        "//u:s3cret@host",
        "s3cret://host",
        "milvus://u:s3cret/1@host:19530",
        "milvus://u:s3cret#1@host",
        "milvus://u:s3cret?1@host",
        "milvus://u:1/s3cret@host",
        "milvus://u:s3cret[@host",
        "milvus://host:s3cret",
        "milvus://host:99999",
    ],
)
def test_an_error_of_a_url_shows_nothing_of_it(url: str) -> None:
    from index.milvus.server.connection import Connection

    with pytest.raises(InvalidItems, match="percent-encoded") as raised:
        Connection(url, 1)
    assert "s3cret" not in str(raised.value)
    # Nor does a traceback.
    assert raised.value.__context__ is None


def test_only_the_first_call_of_a_search_waits_for_all_writes(
    milvus_store: backend.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the calls for ties of each code, and few of these narrow the range of ids."""
    from index.milvus import search
    from index.milvus.server.physical import Physical, at

    asked = []
    found = Physical._query, Physical.search

    def query(self: Any, where: Any, fields: Any, at: Any, params: Any) -> Any:
        asked.append(at)
        return found[0](self, where, fields, at, params)

    def nearest(self: Any, codes: Any, limit: Any, fields: Any, where: Any, *of: Any) -> Any:
        asked.append(of[0])
        return found[1](self, codes, limit, fields, where, *of)

    collection = milvus_store.create("c", 8)
    collection.upsert(IDS, np.zeros((200, 1), np.uint8), None, [{"n": 1}] * 200)
    monkeypatch.setattr(Physical, "_query", query)
    monkeypatch.setattr(Physical, "search", nearest)
    monkeypatch.setattr(search, "REACH", 16)
    options = SearchOptions(2, payloads=True, radius=1, count_within=True)
    answers = collection.search(CODES[:3] // 4, options)
    assert [[each.id for each in answer.neighbours] for answer in answers] == [["000", "001"]] * 3
    strong = at("strong", 0).level
    assert [each.level == strong for each in asked] == [True] + [False] * (len(asked) - 1)
    assert len(asked) < 20
