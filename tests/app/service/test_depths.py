"""The measured depth of reranking for a confidence, in collections that rank by codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import Unready
from app.main import create_app
from app.service.measured import depths
from app.service.measured.depths import Depths, depth_for, least_queries
from hashing import InvalidInput
from index import Collection, SearchOptions, Store
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy, settings_in, without_effort
from tests.app.problems import assert_problem

N, D, N_BITS = 1200, 8, 32
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
PLANES = np.random.default_rng(1).normal(size=(D, N_BITS))
GOOD = np.packbits(X @ PLANES > 0, axis=1)
BAD = np.random.default_rng(2).integers(0, 256, GOOD.shape, np.uint8)
LIMIT = 600


@pytest.fixture
def collection(store: Store) -> Collection:
    collection = store.create("c", N_BITS, keep_descriptors=True)
    collection.upsert(range(N), GOOD, descriptors=X)
    return collection


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the numbers of queries and neighbours of each measurement so far."""
    made: list[tuple[int, int]] = []
    measure = Collection.neighbour_ranks

    def recorded(self: Collection, n_queries: int, k: int, *more: Any) -> NDArray[np.int64]:
        made.append((n_queries, k))
        return measure(self, n_queries, k, *more)

    monkeypatch.setattr(Collection, "neighbour_ranks", recorded)
    return made


def depth_in(
    of: Depths,
    collection: Collection,
    k: int = 5,
    confidence: float = 0.9,
    checkpoint: Callable[[], None] = lambda: None,
) -> int:
    options = SearchOptions(k, confidence=confidence)
    return of.reranking(collection, options, checkpoint).depth


def test_replaced_and_deleted_items_are_measured_again(
    collection: Collection, measurements: list[tuple[int, int]]
) -> None:
    of = Depths()
    before = depth_in(of, collection)
    few = N // 20
    collection.upsert(range(few), BAD[:few], descriptors=X[:few])
    assert depth_in(of, collection) == before
    assert len(measurements) == 1
    collection.upsert(range(N), BAD, descriptors=X)
    after = depth_in(of, collection)
    assert after == depth_in(Depths(), collection)
    assert after > 3 * before
    # Those with the last serials: nothing is written, and once is enough.
    collection.delete(range(N // 2, N))
    measurements.clear()
    assert depth_in(of, collection) < after
    depth_in(of, collection)
    assert len(measurements) == 1


def test_every_neighbour_has_the_confidence() -> None:
    rng = np.random.default_rng(0)
    trials, q, confidence = 2000, 59, 0.9
    scale = np.array([1, 3, 10, 100])
    ranks = np.ceil(scale * rng.lognormal(size=(trials, q + 1, 4)))
    found = np.empty((trials, 4), bool)
    for trial, of_queries in enumerate(ranks):
        depth = depth_for(np.sort(of_queries[:q], axis=0).astype(np.int64), confidence)
        assert depth is not None
        found[trial] = of_queries[q] <= depth
    error = np.sqrt(confidence * (1 - confidence) / trials)
    assert found.mean(axis=0).min() >= confidence - 3 * error
    # No deeper than the farthest neighbour needs.
    assert found[:, 3].mean() <= confidence + 1 / (q + 1) + 3 * error


def test_the_depth_in_a_collection_is_enough_for_the_last_neighbour(
    collection: Collection,
) -> None:
    k, confidence = 50, 0.9
    depth = depth_in(Depths(), collection, k, confidence)
    queries = np.random.default_rng(3).normal(size=(400, D)).astype(np.float32)
    codes = np.packbits(queries @ PLANES > 0, axis=1)
    true = np.linalg.norm(queries[:, None] - X, axis=2).argsort(axis=1)[:, :k]
    hamming = np.bitwise_count(codes[:, None] ^ GOOD).sum(axis=2)
    near = np.take_along_axis(hamming, true, 1)
    ranks = (hamming[:, :, None] <= near[:, None, [0, -1]]).sum(axis=1)
    error = np.sqrt(confidence * (1 - confidence) * (1 / 400 + 1 / depths.HELD_OUT))
    assert (ranks <= depth).mean(axis=0).min() >= confidence - 3 * error


@pytest.mark.parametrize(
    ("confidence", "least"), [(0.5, 1), (0.9, 9), (0.99, 99), (0.998, 499), (0.9981, None)]
)
def test_a_confidence_needs_some_queries(confidence: float, least: int | None) -> None:
    assert least_queries(confidence) == least
    if least is not None:
        assert depth_for(np.full((least, 1), 7), confidence) == 7
        assert depth_for(np.full((least - 1, 1), 7), confidence) is None


def test_a_large_collection_is_measured_with_fewer_queries(
    collection: Collection,
    measurements: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(depths, "_MOST_WORK", 30 * N * (D + depths._PER_PAIR))
    of = Depths()
    for confidence in (0.9, 0.5, 0.99, 0.9, 0.999):
        if confidence < 0.998:
            depth_in(of, collection, confidence=confidence)
        else:
            with pytest.raises(InvalidInput, match=r"allow at most 0\.998; got 0\.999"):
                depth_in(of, collection, confidence=confidence)
    assert [n_queries for n_queries, _ in measurements] == [30, 99]


def test_larger_k_repeat_the_measurement_a_few_times_only(
    collection: Collection, measurements: list[tuple[int, int]]
) -> None:
    of = Depths()
    for k in (1, 5, 16, 17, 20, 32, 3):
        depth_in(of, collection, k)
    assert [k for _, k in measurements] == [16, 32]
    with pytest.raises(InvalidInput, match=r"offset \+ k are at most 1,000, got 1,001"):
        depth_in(of, collection, 1001)


def test_who_waits_for_a_measurement_gives_up_in_time(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, proceed = Event(), Event()
    measure = Collection.neighbour_ranks

    def slow(self: Collection, *args: Any) -> NDArray[np.int64]:
        begun.set()
        assert proceed.wait(60)
        return measure(self, *args)

    def over() -> None:
        raise Unready("over")

    monkeypatch.setattr(Collection, "neighbour_ranks", slow)
    of = Depths()
    with ThreadPoolExecutor(2) as pool:
        try:
            first = pool.submit(depth_in, of, collection)
            assert begun.wait(60)
            waiting = pool.submit(depth_in, of, collection, checkpoint=over)
            with pytest.raises(Unready, match="over"):
                waiting.result(30)
        finally:
            proceed.set()
        assert first.result(60) == depth_in(of, collection)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with few results at once, and a collection c of N items with descriptors."""
    settings = settings_in(tmp_path_factory.mktemp("depths"))
    settings = settings.model_copy(update={"max_results": LIMIT})
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        new = {"name": "e", "method": "lsh", "n_bits": N_BITS, "dimension": D}
        assert client.post("/v1/encoders", json=new).is_success
        new = {"name": "c", "encoder": "e", "keep_descriptors": True}
        assert client.post("/v1/collections", json=new).is_success
        items = npy(X, np.arange(N))
        assert client.put("/v1/collections/c/items", content=items, headers=NPY).is_success
        yield client


QUERY = "/v1/collections/c/query"
BODY = {"k": 5, "confidence": 0.9}


def test_no_search_gets_more_than_the_largest_answer(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"{i}" for i in range(20)]
    alone = [client.post(QUERY, json=BODY | {"ids": [one]}).json() for one in ids]
    sizes: list[tuple[int, int]] = []
    search = Collection.search

    def recorded(self: Collection, codes: Any, options: SearchOptions, **more: Any) -> Any:
        sizes.append((len(codes), options.depth))
        return search(self, codes, options, **more)

    monkeypatch.setattr(Collection, "search", recorded)
    together = client.post(QUERY, json=BODY | {"ids": ids}).json()
    expected = {part: [one[part][0] for one in alone] for part in ("results", "certificates")}
    assert without_effort(together) == without_effort(expected)
    assert sum(n for n, _ in sizes) == 20
    assert 1 < len(sizes) < 20
    assert all(n * depth <= LIMIT for n, depth in sizes)


def test_queries_are_checked_before_the_measurement(
    client: TestClient, measurements: list[tuple[int, int]]
) -> None:
    body = {"k": 60, "confidence": 0.9}  # A larger k than in the other tests.
    for queries, message in (
        ({"codes": ["00" * (N_BITS // 8)]}, "give the descriptors of the queries"),
        ({"descriptors": [[0.0] * (D + 1)]}, f"{D + 1}"),
    ):
        assert_problem(client.post(QUERY, json=body | queries), 422, message)
    assert measurements == []


@pytest.mark.parametrize("change", ["insert", "replace", None])
def test_an_answer_is_exact_only_if_the_search_compared_everything(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, change: str | None
) -> None:
    url = f"/v1/collections/small-{change}"
    new = {"encoder": "e", "keep_descriptors": True}
    assert client.put(url, json=new).is_success
    items = npy(X[:100], np.arange(100))
    assert client.put(f"{url}/items", content=items, headers=NPY).is_success
    search = Collection.search

    def later(self: Collection, *args: Any, **more: Any) -> Any:
        if change is not None:
            self.upsert(range(100, 150), GOOD[100:150], descriptors=X[100:150])
        found = search(self, *args, **more)
        if change == "replace":
            self.delete(range(80))
        return found

    monkeypatch.setattr(Collection, "search", later)
    body = {"descriptors": X[:2].tolist(), "k": 5, "confidence": 0.995}
    for about in client.post(f"{url}/query", json=body).json()["certificates"]:
        assert about["reranked"] == 100
        assert about["exact"] == (change is None)
