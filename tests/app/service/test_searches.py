"""Limits on the size of an answer and on the time of a query, threads, and reranking by bits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, current_thread
from typing import Any

import numpy as np
import pytest

from app.errors import Unready
from app.main import create_app
from app.service.checks import Size
from app.service.collections import searches
from app.service.collections.searches import Searches
from app.service.service import SLOW_QUERY_THREADS, Service
from app.service.settings import Settings
from hashing import make_hasher
from index import Collection, Filter
from index.filters import columns
from index.storage.record import Record
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, fill, npy

QUERY = "/v1/collections/c/query"
N = 40
X = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)


@pytest.fixture
def limited(settings: Settings) -> Iterator[TestClient]:
    """A service that returns at most 100 neighbours, with a collection of 40 items."""
    settings = settings.model_copy(update={"max_results": 100})
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        client.post(
            "/v1/encoders", json={"name": "e", "method": "lsh", "n_bits": 16, "dimension": 4}
        )
        client.post("/v1/collections", json={"name": "c", "encoder": "e"})
        ids = np.array([f"i{i:02}" for i in range(N)])
        client.put("/v1/collections/c/items", content=npy(X, ids), headers=NPY)
        yield client


def distances(client: TestClient) -> list[list[int]]:
    """Return the distances of every item to all items: the oracle of a radius query."""
    codes = client.post("/v1/encoders/e/encode", json={"descriptors": X.tolist()}).json()["codes"]
    bits = [int(code, 16) for code in codes]
    return [sorted((a ^ b).bit_count() for b in bits) for a in bits]


def test_a_radius_query_counts_what_it_finds(limited: TestClient) -> None:
    expected = [[d for d in row if d <= 0] for row in distances(limited)]
    assert sum(map(len, expected)) <= 100 < N * N
    answer = limited.post(QUERY, json={"descriptors": X.tolist(), "radius": 0})
    assert answer.status_code == 200, answer.text
    found = [[near["distance"] for near in one] for one in answer.json()["results"]]
    assert found == expected
    assert len(answer.json()["certificates"]) == N


def test_a_radius_query_that_finds_too_much_is_refused(limited: TestClient) -> None:
    answer = limited.post(QUERY, json={"descriptors": X.tolist(), "radius": 16})
    assert answer.status_code == 413
    assert "at most 100 neighbours" in answer.json()["detail"]
    alone = limited.post(QUERY, json={"descriptors": X[:2].tolist(), "radius": 16})
    assert alone.status_code == 200
    assert [len(one) for one in alone.json()["results"]] == [N, N]


def test_an_answer_that_is_cut_says_so_and_how_many_are_within_the_radius(
    settings: Settings,
) -> None:
    settings = settings.model_copy(update={"max_k": 10})
    n_copies = np.array([1, 9, 10, 11, 25])
    codes = np.repeat(np.eye(5, 8, dtype=np.float32), n_copies, axis=0) - 0.5
    n = len(codes)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        client.post(
            "/v1/encoders", json={"name": "e", "method": "lsh", "n_bits": 64, "dimension": 8}
        )
        client.post("/v1/collections", json={"name": "c", "encoder": "e"})
        ids, labels = np.array([f"i{i:02}" for i in range(n)]), np.arange(n) % 2
        client.put("/v1/collections/c/items", content=npy(codes, ids, labels), headers=NPY)
        places = np.cumsum(n_copies) - 1
        queries = {"descriptors": codes[places].tolist(), "radius": 0}
        for offset in (0, 10, 20):
            body = queries | {"offset": offset}
            answer = client.post(QUERY, json=body).json()
            for found, cut, copies in zip(
                answer["results"], answer["certificates"], n_copies.tolist(), strict=True
            ):
                assert len(found) == min(10, max(0, copies - offset))
                assert cut["within"] == copies
                assert cut["truncated"] == (copies > offset + 10)
                assert cut["exact"]
        # A search that ends at its k does not know how many more there are.
        cuts = client.post(QUERY, json=queries | {"k": 9}).json()["certificates"]
        assert [cut.get("within") for cut in cuts] == [1, None, None, None, None]
        assert [cut.get("truncated") for cut in cuts] == [False, None, None, None, None]
        (cut,) = client.post(QUERY, json={"ids": ["i00"], "k": 9}).json()["certificates"]
        assert set(cut) == {"exact", "radius", "looked", "tie"}
        # A filter, and options in the URL.
        body = {"ids": ["i50"], "radius": 64, "filter": {"label": 1}}
        (cut,) = client.post(QUERY, json=body).json()["certificates"]
        assert (cut["within"], cut["truncated"]) == (n // 2, True)
        answer = client.post(f"{QUERY}?radius=64", content=npy(codes[:1]), headers=NPY).json()
        assert answer["certificates"][0]["within"] == n


def test_a_query_with_a_filter_counts_what_it_finds(limited: TestClient) -> None:
    items = [{"id": f"i{i:02}", "descriptor": X[i].tolist(), "label": i % 20} for i in range(N)]
    assert limited.put("/v1/collections/c/items", json={"items": items}).status_code == 200
    body = {"descriptors": X.tolist(), "k": N, "filter": {"label": 3}}
    answer = limited.post(QUERY, json=body)
    assert answer.status_code == 200, answer.text
    assert [{near["id"] for near in one} for one in answer.json()["results"]] == [
        {"i03", "i23"} for _ in range(N)
    ]
    answer = limited.post(QUERY, json=body | {"filter": {"label": {"in": [3, 4]}}})
    assert answer.status_code == 413
    assert "this one finds more" in answer.json()["detail"]


def test_a_query_without_a_radius_is_charged_for_k(limited: TestClient) -> None:
    body = {"descriptors": X.tolist(), "k": 3}
    assert limited.post(QUERY, json=body).status_code == 413
    assert limited.post(QUERY, json=body | {"k": 2}).status_code == 200


def test_reranking_by_bits_counts_the_bits_that_relu_does_not_set(limited: TestClient) -> None:
    relu = {"name": "r", "method": "random-net-1", "n_bits": 16, "params": {"activation": "relu"}}
    assert limited.post("/v1/encoders", json=relu | {"dimension": 4}).status_code == 201
    limited.post("/v1/collections", json={"name": "relu", "encoder": "r"})
    ids = np.array([f"i{i:02}" for i in range(N)])
    limited.put("/v1/collections/relu/items", content=npy(X, ids), headers=NPY)
    body = {"descriptors": X[:1].tolist(), "k": N, "rerank": N, "rerank_by": "bits"}
    found = limited.post("/v1/collections/relu/query", json=body).json()["results"][0]

    # Without an activation, and with the same weights.
    linear = make_hasher("random-net-1", n_bits=16, a=-1e9, b=1e9).fit(np.zeros((1, 4)))
    z = linear.project(X).astype(float)
    expected = {f"i{i:02}": np.abs(z[0])[(z[i] > 0) != (z[0] > 0)].sum() for i in range(N)}
    assert [near["id"] for near in found] == sorted(expected, key=lambda i: (expected[i], i))
    np.testing.assert_allclose(
        [near["score"] for near in found], [expected[near["id"]] for near in found], atol=1e-5
    )
    assert sum(score < 1e-6 for score in expected.values()) == 1


def test_a_query_beyond_its_time_is_refused(settings: Settings) -> None:
    settings = settings.model_copy(update={"query_timeout": 1e-6})
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        fill(client)
        for more in ({}, {"filter": {"n": 1}}, {"radius": 3}):
            answer = client.post(QUERY, json={"ids": ["a"], **more})
            assert answer.status_code == 503
            assert answer.headers["Retry-After"]
            assert "longer than 1e-06 s (BITCELL_QUERY_TIMEOUT)" in answer.json()["detail"]


def test_slow_queries_have_their_own_threads(
    small: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    search = Searches.search

    def noted(self: Searches, *args: Any, **options: Any) -> Any:
        threads.append(current_thread().name.partition("_")[0])
        return search(self, *args, **options)

    monkeypatch.setattr(Searches, "search", noted)
    query: dict[str, Any] = {"ids": ["a"], "k": 1}
    more: dict[str, Any]
    for more in ({}, {"filter": {"label": 7}}, {"filter": {"n": None}}, {"filter": {"n": 1}}):
        assert small.post(QUERY, json=query | more).status_code == 200
    # Once the field is in memory, the filter is quick.
    assert threads == ["query", "query", "slow query", "query"]
    for name in ("_MANY_CODES", "_MANY_NEIGHBOURS"):
        with monkeypatch.context() as patch:
            patch.setattr(searches, name, 2)
            for more in ({}, {"ids": ["a", "b"], "k": 2}):
                assert small.post(QUERY, json=query | more).status_code == 200
    assert threads[4:] == ["slow query", "slow query", "query", "slow query"]


def test_slow_queries_do_not_take_the_threads_of_quick_ones(
    small: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More slow queries come than there are threads for all queries."""
    reading, proceed = Event(), Event()
    read = Record.payloads

    def stuck(self: Record, serials: Any) -> dict[int, str]:
        reading.set()
        assert proceed.wait(60)
        return read(self, serials)

    with ThreadPoolExecutor(60) as pool, monkeypatch.context() as patch:
        patch.setattr(Record, "payloads", stuck)
        filters = [{f"new{i}": 1} for i in range(60)]
        slow = [pool.submit(small.post, QUERY, json={"ids": ["a"], "filter": f}) for f in filters]
        try:
            assert reading.wait(30)
            quick = {"ids": ["a"], "k": 1, "payloads": False}
            for _ in range(2):
                assert small.post(QUERY, json=quick).status_code == 200
            assert not any(query.done() for query in slow)
        finally:
            proceed.set()
        assert {query.result(60).status_code for query in slow} == {200}


def test_a_stop_ends_running_searches(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(settings)
    service.encoders.create("e", "lsh", 12, {}, dimension=4)
    service.collections.create("c", "e")
    service.collections.upsert("c", [f"i{i:02}" for i in range(N)], X, None, [{"a": 1}] * N)
    reading = Event()
    reads: list[Any] = []

    def read_until_stop(self: Record, serials: Any) -> dict[int, str]:
        reading.set()
        reads.append(serials)
        assert service.searches._stopping.wait(30)
        return {}

    monkeypatch.setattr(columns, "_CHUNK", 1)
    monkeypatch.setattr(Record, "payloads", read_until_stop)
    options = service.searches.options(1, None, where=Filter({"a": 1}))
    # One of them reads, others wait for their turn, and the last ones for a thread.
    running = [
        service.slow_query_pool.submit(
            service.searches.search, "c", options, Size(service.answers, ""), descriptors=X
        )
        for _ in range(SLOW_QUERY_THREADS + 5)
    ]
    assert reading.wait(30)
    service.close()
    assert service.all_ended
    assert len(reads) == 1
    for query in running:
        if not query.cancelled():
            with pytest.raises(Unready, match="stopping"):
                query.result(0)


def test_a_collection_dropped_during_a_search_leaves_no_metrics(
    limited: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Collection.search

    def search_and_drop(self: Collection, *args: Any, **options: Any) -> Any:
        found = search(self, *args, **options)
        assert limited.delete("/v1/collections/c").status_code == 204
        return found

    monkeypatch.setattr(Collection, "search", search_and_drop)
    assert limited.post(QUERY, json={"ids": ["i00"], "k": 1}).status_code == 200
    assert 'collection="c"' not in limited.get("/metrics").text
