"""Collections that rank by estimated distances, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.main import create_app
from hashing.methods.rabitq import RaBitQ
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy, settings_in, without_effort
from tests.app.jobs.waiting import ended
from tests.app.problems import assert_problem

D, N_BITS = 16, 64
RNG = np.random.default_rng(0)
X = RNG.normal(0, 1, (200, D)).astype(np.float32)
QUERIES = RNG.normal(0, 1, (4, D)).astype(np.float32)
IDS = np.array([f"i{i:03}" for i in range(len(X))])
URL = "/v1/collections/c"


def new_encoder(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "method": "rabitq", "n_bits": N_BITS, "dimension": D, **more}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a service with encoders: plain, other, unit (which normalizes) and lsh."""
    settings = settings_in(tmp_path_factory.mktemp("estimates"))
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        for new in (
            new_encoder("plain"),
            new_encoder("other", params={"random_state": 9}),
            new_encoder("unit", params={"normalize": True}),
            new_encoder("lsh", method="lsh"),
        ):
            assert client.post("/v1/encoders", json=new).status_code == 201
        yield client


@pytest.fixture
def filled(client: TestClient, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """The same, with a collection c that keeps its descriptors and estimates a metric."""
    metric = getattr(request, "param", "euclidean")
    encoder = "unit" if metric == "cosine" else "plain"
    new = {"name": "c", "encoder": encoder, "ranking": "estimate", "metric": metric}
    made = client.post("/v1/collections", json=new | {"keep_descriptors": True})
    assert made.status_code == 201, made.text
    assert (made.json()["ranking"], made.json()["metric"]) == ("estimate", metric)
    labels = np.arange(len(X)) % 3
    put = client.put(f"{URL}/items", content=npy(X, IDS, labels), headers=NPY)
    assert put.status_code == 200, put.text
    yield client
    for name in ("c", "back"):
        client.delete(f"/v1/collections/{name}")


def expected(
    metric: Any, k: int, rows: NDArray[np.intp] | None = None, seed: int = 0
) -> list[list[tuple[str, float]]]:
    """Return ids and estimated distances of the nearest items, by the library."""
    rows = np.arange(len(X)) if rows is None else rows
    hasher = RaBitQ(N_BITS, normalize=metric == "cosine", random_state=seed)
    hasher.fit(np.zeros((1, D)))
    found = hasher.estimate(
        QUERIES, hasher.encode(X[rows]), hasher.factors(X[rows], metric), metric
    )
    if metric == "euclidean":
        found = np.sign(found) * np.sqrt(np.abs(found))
    order = np.argsort(found, axis=1, kind="stable")[:, :k]
    return [
        [(str(IDS[rows[place]]), float(found[query, place])) for place in places]
        for query, places in enumerate(order)
    ]


def check(answer: Any, wanted: list[list[tuple[str, float]]]) -> None:
    assert answer.status_code == 200, answer.text
    for found, pairs in zip(answer.json()["results"], wanted, strict=True):
        assert [near["id"] for near in found] == [item_id for item_id, _ in pairs]
        np.testing.assert_allclose(
            [near["score"] for near in found], [score for _, score in pairs], atol=1e-4
        )


@pytest.mark.parametrize("filled", ["euclidean", "cosine", "dot"], indirect=True)
def test_answers_are_the_estimates_of_the_library(filled: TestClient) -> None:
    metric = filled.get(URL).json()["metric"]
    body = {"descriptors": QUERIES.tolist(), "k": 9}
    answer = filled.post(f"{URL}/query", json=body)
    check(answer, expected(metric, 9))
    for about in answer.json()["certificates"]:
        assert about["error_bound"] > 0
        assert (about["ranking"], about["looked"], about["exact"]) == ("estimate", 200, True)
    as_npy = filled.post(f"{URL}/query?k=9", content=npy(QUERIES), headers=NPY)
    assert as_npy.json() == answer.json()
    rows = np.flatnonzero(np.arange(len(X)) % 3 == 1)
    filtered = filled.post(f"{URL}/query", json=body | {"filter": {"label": 1}})
    check(filtered, expected(metric, 9, rows))
    by_id = filled.post(f"{URL}/query", json={"ids": ["i007"], "k": 1}).json()["results"]
    by_row = filled.post(f"{URL}/query", json={"descriptors": [X[7].tolist()], "k": 1})
    assert by_id == by_row.json()["results"]


def test_max_score_returns_all_within_it(filled: TestClient) -> None:
    (wanted, *_) = expected("euclidean", 200)
    limit = (wanted[30][1] + wanted[31][1]) / 2
    body = {"descriptors": QUERIES[:1].tolist(), "max_score": limit}
    answer = filled.post(f"{URL}/query", json=body)
    check(answer, [wanted[:31]])
    (about,) = answer.json()["certificates"]
    assert (about["within"], about["truncated"]) == (31, False)
    in_url = filled.post(f"{URL}/query?max_score={limit}", content=npy(QUERIES[:1]), headers=NPY)
    assert in_url.json() == answer.json()


@pytest.mark.parametrize("filled", ["euclidean", "cosine", "dot"], indirect=True)
def test_a_confidence_finds_the_true_neighbours(filled: TestClient) -> None:
    metric = filled.get(URL).json()["metric"]
    body = {"descriptors": QUERIES.tolist(), "k": 5, "confidence": 0.99}
    answer = filled.post(f"{URL}/query", json=body).json()
    inner = QUERIES @ X.T
    lengths = np.outer(np.linalg.norm(QUERIES, axis=1), np.linalg.norm(X, axis=1))
    exact = {
        "euclidean": np.linalg.norm(QUERIES[:, None] - X, axis=2),
        "cosine": 1 - inner / lengths,
        "dot": -inner,
    }[metric]
    for query, found in enumerate(answer["results"]):
        places = np.argsort(exact[query])[:5]
        assert [near["id"] for near in found] == IDS[places].tolist()
        scores = [near["score"] for near in found]
        np.testing.assert_allclose(scores, exact[query, places], atol=1e-4)
    for about in answer["certificates"]:
        assert (about["confidence"], about["looked"]) == (0.99, 200)
        assert about["exact"] == (about["reranked"] == 200)
        assert "error_bound" not in about
    url = f"{URL}/query?k=5&confidence=0.99"
    assert filled.post(url, content=npy(QUERIES), headers=NPY).json() == answer


def test_a_snapshot_and_a_reencoding_keep_the_ranking(filled: TestClient) -> None:
    body = {"descriptors": QUERIES.tolist(), "k": 9}
    file = filled.post(f"{URL}/snapshots").json()["snapshot"]
    restored = filled.post("/v1/collections/back/restore", json={"snapshot": file})
    assert restored.status_code == 201, restored.text
    assert (restored.json()["ranking"], restored.json()["metric"]) == ("estimate", "euclidean")
    check(filled.post("/v1/collections/back/query", json=body), expected("euclidean", 9))
    for encoder, message in (("lsh", "of method 'lsh'"), ("unit", "does not normalize")):
        refused = filled.post(f"{URL}/reencode", json={"encoder": encoder})
        assert_problem(refused, 422, message)
    job = filled.post(f"{URL}/reencode", json={"encoder": "other"}).json()["id"]
    assert ended(filled, job)["state"] == "done"
    assert filled.get(URL).json()["metric"] == "euclidean"
    check(filled.post(f"{URL}/query", json=body), expected("euclidean", 9, seed=9))


def test_a_reencoding_changes_the_ranking(filled: TestClient) -> None:
    plain = "/v1/collections/plain"
    new = {"name": "plain", "encoder": "lsh", "keep_descriptors": True}
    assert filled.post("/v1/collections", json=new).status_code == 201
    put = filled.put(f"{plain}/items", content=npy(X, IDS), headers=NPY)
    assert put.is_success, put.text
    body = {"descriptors": QUERIES.tolist(), "k": 9}
    hamming = filled.post(f"{plain}/query", json=body).json()
    for wanted, message in (
        ({"encoder": "lsh", "ranking": "estimate"}, "of method 'lsh'"),
        ({"encoder": "other", "metric": "dot"}, "needs ranking 'estimate'"),
        ({"encoder": "other", "ranking": "estimate", "metric": "cosine"}, "that normalizes"),
    ):
        assert_problem(filled.post(f"{plain}/reencode", json=wanted), 422, message)
    to_estimates = {"encoder": "other", "ranking": "estimate", "metric": "dot"}
    to_other = {"encoder": "other", "metric": "euclidean"}
    for wanted, metric in ((to_estimates, "dot"), (to_other, "euclidean")):
        job = filled.post(f"{plain}/reencode", json=wanted).json()["id"]
        assert ended(filled, job)["state"] == "done"
        assert filled.get(plain).json()["metric"] == metric
        check(filled.post(f"{plain}/query", json=body), expected(metric, 9, seed=9))
    back = {"encoder": "lsh", "ranking": "hamming"}
    assert (
        ended(filled, filled.post(f"{plain}/reencode", json=back).json()["id"])["state"] == "done"
    )
    assert filled.get(plain).json()["ranking"] == "hamming"
    again = filled.post(f"{plain}/query", json=body).json()
    assert without_effort(again) == without_effort(hamming)


def test_a_collection_exists_with_its_ranking_or_not(filled: TestClient) -> None:
    same = {"encoder": "plain", "keep_descriptors": True, "ranking": "estimate"}
    assert filled.put(URL, json=same).status_code == 200
    assert filled.put(URL, json=same | {"metric": "euclidean"}).status_code == 200
    assert filled.put(URL, json=same | {"metric": "dot"}).status_code == 409
    assert filled.put(URL, json=same | {"ranking": "hamming"}).status_code == 409


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ({"encoder": "lsh", "ranking": "estimate"}, "needs an encoder with factors"),
        ({"encoder": "plain", "ranking": "estimate", "metric": "cosine"}, "that normalizes"),
        ({"encoder": "unit", "ranking": "estimate", "metric": "dot"}, "that does not normalize"),
        ({"encoder": "plain", "metric": "dot"}, "needs ranking 'estimate'"),
        ({"n_bits": 64, "ranking": "estimate"}, "given codes has no factors"),
        ({"encoder": "plain", "ranking": "random"}, "ranking: Input should be 'hamming' or"),
        ({"encoder": "plain", "ranking": "estimate", "metric": "l1"}, "metric: Input should be"),
    ],
)
def test_collections_that_cannot_be_are_refused(
    client: TestClient, new: dict[str, Any], message: str
) -> None:
    assert_problem(client.post("/v1/collections", json={"name": "no", **new}), 422, message)


def test_queries_that_cannot_be_are_refused(client: TestClient) -> None:
    new = {"name": "n", "encoder": "plain", "ranking": "estimate"}
    assert client.post("/v1/collections", json=new).json()["metric"] == "euclidean"
    assert (
        client.post("/v1/collections", json={"name": "h", "encoder": "plain"}).json()["ranking"]
        == "hamming"
    )
    for name in ("n", "h"):
        url = f"/v1/collections/{name}/items"
        assert client.put(url, content=npy(X, IDS), headers=NPY).status_code == 200
    code = "00" * (N_BITS // 8)
    query = {"descriptors": QUERIES[:1].tolist()}
    for name, body, message in (
        ("n", {"ids": ["i001"]}, "keeps no descriptors: to estimate distances"),
        ("n", {"codes": [code]}, "to estimate distances, give the descriptors"),
        ("n", query | {"radius": 3}, "give max_score"),
        ("h", query | {"max_score": 3}, "radius takes the place of max_score"),
        ("n", query | {"confidence": 0.9}, "keeps no descriptors"),
        ("h", query | {"confidence": 0.9}, "keeps no descriptors"),
        ("n", query | {"confidence": 1}, "confidence: Input should be less than 1"),
        ("n", query | {"confidence": 0.9, "rerank": 20}, "replaces rerank"),
        ("n", query | {"max_score": "3"}, "max_score: Input should be a valid number"),
    ):
        assert_problem(client.post(f"/v1/collections/{name}/query", json=body), 422, message)
    nan = client.post("/v1/collections/n/query?max_score=nan", content=npy(QUERIES), headers=NPY)
    assert_problem(nan, 422, "max_score")
    bad = client.post("/v1/collections/n/query", json={"descriptors": [[1e39] * D]})
    assert_problem(bad, 422, "row 0, column 0")


def test_a_confidence_is_measured_where_codes_rank(client: TestClient) -> None:
    new = {"name": "measured", "encoder": "lsh", "keep_descriptors": True}
    assert client.post("/v1/collections", json=new).status_code == 201
    url = "/v1/collections/measured"
    query = {"descriptors": X[:2].tolist(), "k": 5, "confidence": 0.9}
    assert client.post(f"{url}/query", json=query).json()["results"] == [[], []]
    rng = np.random.default_rng(1)
    items, queries = (rng.normal(size=(n, D)).astype(np.float32) for n in (1500, 300))
    for part in (slice(0, 100), slice(100, 1500)):
        ids = np.arange(1500)[part]
        assert client.put(f"{url}/items", content=npy(items[part], ids), headers=NPY).is_success
        n = len(items[: part.stop])
        true = np.argsort(np.linalg.norm(queries[:, None] - items[:n], axis=2), axis=1)[:, :5]
        for confidence in (0.9, 0.99):
            answer = client.post(
                f"{url}/query?k=5&confidence={confidence}", content=npy(queries), headers=NPY
            )
            shares = [
                len({int(near["id"]) for near in found} & set(near_ids.tolist())) / 5
                for found, near_ids in zip(answer.json()["results"], true, strict=True)
            ]
            error = np.std(shares) / np.sqrt(300)
            assert np.mean(shares) >= confidence - 3 * error
            about = answer.json()["certificates"][0]
            assert about["confidence"] == confidence
            assert 5 < about["reranked"] <= n
            assert about["exact"] == (about["reranked"] == n)
            if n == 1500 and confidence == 0.9:
                assert about["reranked"] < n / 2
    for more, message in (
        ({"confidence": 0.9999}, "allow at most 0.998; got 0.9999"),
        ({"filter": {"label": 1}}, "without filter and radius"),
        ({"radius": 5}, "without filter and radius"),
    ):
        assert_problem(client.post(f"{url}/query", json=query | more), 422, message)


@pytest.mark.parametrize("encoder", ["plain", "unit"])
def test_no_item_one_item_and_zeros_have_sound_answers(client: TestClient, encoder: str) -> None:
    url = f"/v1/collections/one-{encoder}"
    new = {"encoder": encoder, "ranking": "estimate"}
    assert client.put(url, json=new).status_code == 201
    queries = {"descriptors": [[0.0] * D, X[0].tolist()]}
    assert client.post(f"{url}/query", json=queries).json()["results"] == [[], []]
    zeros = {"items": [{"id": "zeros", "descriptor": [0.0] * D}]}
    assert client.put(f"{url}/items", json=zeros).status_code == 200
    answer = client.post(f"{url}/query", json=queries)
    scores = [found[0]["score"] for found in answer.json()["results"]]
    length = float(np.linalg.norm(X[0]))
    wanted = [0, length] if encoder == "plain" else [1, 1]
    np.testing.assert_allclose(scores, wanted, atol=1e-3)
