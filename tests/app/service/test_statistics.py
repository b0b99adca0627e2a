"""Statistics of the codes of a collection, and lists of items, methods and datasets."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest

from app.http.routes import collections as routes
from app.service.collections import statistics
from bitcodes import to_words
from hashing import HASHERS
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy
from tests.app.problems import assert_problem


def codes_of(n: int, n_bits: int, distinct: int) -> Any:
    """Return codes with repeats, in which bit 0 is constant and bit 1 is the inverse of bit 2."""
    rng = np.random.default_rng(n_bits)
    x = rng.random((distinct, n_bits)) < rng.uniform(0.2, 0.8, n_bits)
    x[:, 0] = True
    x[:, 1] = ~x[:, 2]
    return x[rng.integers(distinct, size=n)]


@pytest.mark.parametrize("n_bits", [3, 12, 64, 100, 200])
def test_correlations_equal_those_of_numpy(n_bits: int) -> None:
    x = codes_of(3000, n_bits, 700)
    found = statistics.bits(to_words(np.packbits(x, axis=1)), n_bits)
    np.testing.assert_allclose(found["ones"], x.mean(axis=0), atol=1e-6)
    assert (found["looked"], found["constant"]) == (3000, 1)
    r = np.zeros((n_bits, n_bits))
    r[1:, 1:] = np.corrcoef(x[:, 1:].T)
    upper = np.abs(r[np.triu_indices(n_bits, 1)])
    assert found["mean_correlation"] == pytest.approx(upper.mean())
    assert found["most_correlated"][0] == {"bits": [1, 2], "correlation": -1}
    most = [abs(pair["correlation"]) for pair in found["most_correlated"]]
    np.testing.assert_allclose(most, np.sort(upper)[::-1][: len(most)], atol=1e-6)
    heat = np.array(found["heat_map"])
    assert heat.shape == (min(n_bits, 64),) * 2
    np.fill_diagonal(r, 0)
    if n_bits <= 64:
        np.testing.assert_allclose(heat, np.abs(r), atol=1e-4)
    else:
        # Weighted by the pairs in each cell, the map sums up to the matrix.
        widths = np.diff(np.linspace(0, n_bits, 65).astype(int))
        pairs = np.outer(widths, widths) - np.diag(widths)
        assert (heat * pairs).sum() == pytest.approx(np.abs(r).sum(), rel=1e-3)


@pytest.mark.parametrize("n_bits", [8, 64, 70])
def test_buckets_equal_a_plain_count(n_bits: int) -> None:
    x = codes_of(5000, n_bits, 40 if n_bits == 70 else 3000)
    counts = Counter(code.tobytes() for code in x)
    found = statistics.buckets(to_words(np.packbits(x, axis=1)))
    assert (found["looked"], found["codes"]) == (5000, len(counts))
    assert found["largest"] == max(counts.values())
    for group in found["sizes"]:
        within = [c for c in counts.values() if group["least"] <= c <= group["most"]]
        assert (group["codes"], group["items"]) == (len(within), sum(within))
    assert sum(group["items"] for group in found["sizes"]) == 5000


def test_a_large_collection_is_sampled(small: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).normal(size=(4000, 4))
    ids = np.array([f"i{i}" for i in range(4000)])
    assert small.put("/v1/collections/c/items", content=npy(X, ids), headers=NPY).is_success
    url = "/v1/collections/c/statistics"
    whole = small.get(url).json()
    assert (whole["items"], whole["n_bits"]) == (4003, 12)
    assert whole["bits"]["looked"] == whole["buckets"]["looked"] == 4003
    monkeypatch.setattr(statistics, "MAX_ITEMS", 1000)
    monkeypatch.setattr(statistics, "MAX_SORTED", 2000)
    part = small.get(url).json()
    assert part["items"] == 4003
    assert (part["bits"]["looked"], part["buckets"]["looked"]) == (1000, 2000)
    np.testing.assert_allclose(part["bits"]["ones"], whole["bits"]["ones"], atol=0.06)
    assert small.get(url).json() == part
    assert whole["buckets"]["codes"] >= part["buckets"]["codes"]


def test_long_codes_take_bounded_work(small: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "/v1/collections/c/statistics"
    monkeypatch.setattr(statistics, "MAX_ITEMS_TIMES_BITS_SQUARED", 2 * 12**2)
    assert small.get(url).json()["bits"]["looked"] == 2
    monkeypatch.setattr(statistics, "MAX_SORTED_BYTES", 2)
    assert small.get(url).json()["buckets"]["looked"] == 1


def test_the_longest_codes_take_little_time_and_memory() -> None:
    words = np.random.default_rng(0).integers(0, 2**63, (1024, 64)).astype(np.uint64)
    start = time.thread_time()
    tracemalloc.start()
    try:
        found = statistics.bits(words, 4096)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.thread_time() - start < 2  # 0.3 s on an idle processor.
    assert peak < 30e6  # The matrix of all pairs takes 134 MB.
    assert np.shape(found["heat_map"]) == (64, 64)


@pytest.mark.parametrize("block", [1, 700, 1 << 13])
def test_the_figures_do_not_depend_on_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    words = to_words(np.packbits(codes_of(1000, 100, 300), axis=1))
    whole = statistics.bits(words, 100)
    monkeypatch.setattr(statistics, "_COMPARED", block)
    monkeypatch.setattr(statistics, "_UNPACKED", block)
    found = statistics.bits(words, 100)
    assert found.pop("mean_correlation") == pytest.approx(whole.pop("mean_correlation"))
    assert found == whole


def test_statistics_that_wait_hold_no_thread(
    small: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "/v1/collections/c/statistics"
    service = small.app.state.service  # type: ignore[attr-defined]
    release = Event()
    busy = service.statistics_pool.submit(release.wait, 30)
    monkeypatch.setattr(routes, "STATISTICS_SECONDS", 0.01)
    with ThreadPoolExecutor(45) as pool:  # More than the application has threads.
        for answer in pool.map(lambda _: small.get(url), range(45)):
            assert_problem(answer, 503, "the statistics are not ready after")
        assert small.get("/v1/collections/c/items/a").status_code == 200
    release.set()
    assert busy.result()
    monkeypatch.undo()
    assert small.get(url).status_code == 200


def test_an_empty_and_a_missing_collection(client: TestClient) -> None:
    new = {"name": "e", "method": "lsh", "n_bits": 1, "dimension": 4}
    client.post("/v1/encoders", json=new)
    client.post("/v1/collections", json={"name": "c", "encoder": "e"})
    empty = client.get("/v1/collections/c/statistics").json()
    assert empty == {"items": 0, "n_bits": 1, "bits": None, "buckets": None, "drift": None}
    client.put("/v1/collections/c/items", json={"items": [{"id": "a", "descriptor": [1, 2, 3, 4]}]})
    one = client.get("/v1/collections/c/statistics").json()
    assert one["buckets"]["sizes"] == [{"least": 1, "most": 1, "codes": 1, "items": 1}]
    assert (one["bits"]["constant"], one["bits"]["most_correlated"]) == (1, [])
    assert_problem(client.get("/v1/collections/none/statistics"), 404, "no collection 'none'")


def test_items_are_listed_in_pages(small: TestClient) -> None:
    url = "/v1/collections/c/items"
    whole = small.get(url).json()
    assert whole["of"] == 3
    assert {item["id"] for item in whole["items"]} == {"a", "b", "c/d e"}
    for item in whole["items"]:
        assert small.get(f"{url}/{item['id']}").json() == item
    pages = [small.get(f"{url}?limit=2&offset={at}").json()["items"] for at in (0, 2, 4)]
    assert pages == [whole["items"][:2], whole["items"][2:], []]
    assert_problem(small.get(f"{url}?limit=0"), 422, "greater than or equal to 1")
    assert_problem(small.get("/v1/collections/none/items"), 404, "no collection 'none'")


def test_a_query_returns_codes_on_request(small: TestClient) -> None:
    url = "/v1/collections/c/query"
    answer = small.post(url, json={"ids": ["a", "b"], "codes": True}).json()
    items = {item["id"]: item for item in small.get("/v1/collections/c/items").json()["items"]}
    assert answer["codes"] == [items["a"]["code"], items["b"]["code"]]
    for code, near in zip(answer["codes"], answer["results"], strict=True):
        for found in near:
            assert found["code"] == items[found["id"]]["code"]
            assert (int(code, 16) ^ int(found["code"], 16)).bit_count() == found["distance"]
    page = small.post(url, json={"ids": ["a"], "codes": True, "offset": 1, "k": 1}).json()
    assert page["results"] == [answer["results"][0][1:2]]
    assert "code" not in small.post(url, json={"ids": ["a"]}).text
    by_npy = small.post(f"{url}?codes=true", content=npy([[1.0, 2, 3, 4]]), headers=NPY).json()
    assert by_npy["codes"] == answer["codes"][:1]


def test_methods_and_datasets_are_listed(client: TestClient) -> None:
    methods = {one["method"]: one for one in client.get("/v1/methods").json()}
    assert list(methods) == list(HASHERS)
    assert methods["lsh"]["data_free"]
    assert methods["ksh"]["needs_labels"]
    assert methods["net-1"]["needs_torch"]
    assert client.get("/v1/datasets").json() == ["digits"]
