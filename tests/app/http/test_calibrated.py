"""Queries that ask what distances mean: angles with intervals, and a rate of false matches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from app.main import create_app
from app.service.measured import calibrations
from bitcodes import hamming, pack
from hashing import make_hasher
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy, settings_in, without_effort
from tests.app.problems import assert_problem

D, N_BITS, N = 12, 32, 1500
RNG = np.random.default_rng(0)
Y = RNG.integers(5, size=N)
X = (2 * RNG.normal(0, 1, (5, D))[Y] + RNG.normal(0, 1, (N, D))).astype(np.float32)
IDS = np.array([f"i{i:04}" for i in range(N)])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a service with collections that differ in what they know about angles."""
    settings = settings_in(tmp_path_factory.mktemp("calibrated"))
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        for method in ("lsh", "rabitq"):
            new = {"name": method, "method": method, "n_bits": N_BITS, "dimension": D}
            assert client.post("/v1/encoders", json=new).status_code == 201
        file = make_hasher("itq", n_bits=D).fit(X[:300]).to_bytes()
        headers = {"Content-Type": "application/octet-stream"}
        made = client.put("/v1/encoders/itq", content=file, headers=headers)
        assert made.status_code == 201, made.text
        for name, encoder, more in (
            ("law", "lsh", {}),
            ("measured", "lsh", {"keep_descriptors": True}),
            ("learned", "itq", {"keep_descriptors": True}),
            ("unlabelled", "itq", {}),
            ("estimated", "rabitq", {"ranking": "estimate"}),
            ("equal", "itq", {"keep_descriptors": True}),
            ("empty", "itq", {"keep_descriptors": True}),
            ("unasked", "lsh", {"keep_descriptors": True}),
            ("few", "itq", {"keep_descriptors": True}),
            ("few-law", "lsh", {"keep_descriptors": True}),
            ("one-class", "lsh", {}),
        ):
            collection = {"name": name, "encoder": encoder, **more}
            assert client.post("/v1/collections", json=collection).status_code == 201
        for name in ("law", "measured", "learned", "estimated", "unasked"):
            put(client, name, X, IDS, Y)
        put(client, "unlabelled", X, IDS)
        put(client, "few", X[:199], IDS[:199])
        put(client, "few-law", X[:199], IDS[:199])
        put(client, "equal", np.ones((200, D)), IDS[:200])
        put(client, "one-class", X[:100], IDS[:100], np.zeros(100, int))
        given = {"name": "codes", "n_bits": N_BITS}
        assert client.post("/v1/collections", json=given).status_code == 201
        put(client, "codes", pack(X @ RNG.normal(0, 1, (D, N_BITS))), IDS)
        yield client


def put(client: TestClient, name: str, *arrays: Any) -> None:
    answer = client.put(f"/v1/collections/{name}/items", content=npy(*arrays), headers=NPY)
    assert answer.status_code == 200, answer.text


def ask(client: TestClient, name: str, **options: Any) -> Any:
    return client.post(f"/v1/collections/{name}/query", json={"ids": ["i0007"], **options})


def test_the_law_of_hyperplanes_gives_angles_without_descriptors(client: TestClient) -> None:
    answer = ask(client, "law", calibrated=True, k=20).json()
    (certificate,) = answer["certificates"]
    assert certificate["calibration"] == {"law": "binomial", "level": 0.9, "pairs": 0}
    assert "false_matches" not in certificate
    for near in answer["results"][0]:
        d = near["distance"]
        assert near["angle"] == pytest.approx(math.pi * d / N_BITS, abs=1e-6)
        low = beta.ppf(0.05, d, N_BITS - d + 1) if d else 0
        assert near["angle_low"] == pytest.approx(math.pi * low, abs=1e-6)
        high = beta.ppf(0.95, d + 1, N_BITS - d)
        assert near["angle_high"] == pytest.approx(math.pi * high, abs=1e-6)


@pytest.mark.parametrize("name", ["measured", "learned"])
def test_measured_angles_cover_those_of_new_queries(client: TestClient, name: str) -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(5, size=60)
    means = np.array([X[label == Y].mean(axis=0) for label in range(5)])
    queries = (means[labels] + rng.normal(0, 1, (60, D))).astype(np.float32)
    answer = client.post(
        f"/v1/collections/{name}/query?k=500&calibrated=true", content=npy(queries), headers=NPY
    ).json()
    assert answer["certificates"][0]["calibration"]["law"] == "pairs"
    assert answer["certificates"][0]["calibration"]["pairs"] > 3000
    centred = {item_id: x - X.mean(axis=0) for item_id, x in zip(IDS, X, strict=True)}
    inside = []
    for query, found in zip(queries - X.mean(axis=0), answer["results"], strict=True):
        for near in found:
            x = centred[near["id"]]
            cosine = query @ x / (np.linalg.norm(query) * np.linalg.norm(x))
            inside.append(near["angle_low"] <= math.acos(cosine) <= near["angle_high"])
    # Of the nearest third of all items, as opposed to random ones.
    assert 0.86 <= np.mean(inside) <= 0.94


def test_an_item_finds_itself_at_an_angle_of_zero(client: TestClient) -> None:
    """Pairs of different items have larger distances, so that none measures what 0 means."""
    wide = {"name": "wide", "method": "lsh", "n_bits": 256, "dimension": D}
    assert client.post("/v1/encoders", json=wide).status_code == 201
    collection = {"name": "wide", "encoder": "wide", "keep_descriptors": True}
    assert client.post("/v1/collections", json=collection).status_code == 201
    put(client, "wide", RNG.normal(0, 1, (300, D)), IDS[:300])
    (found,) = ask(client, "wide", calibrated=True, k=300).json()["results"]
    assert (found[0]["id"], found[0]["distance"]) == ("i0007", 0)
    assert found[1]["distance"] > 1
    assert (found[0]["angle"], found[0]["angle_low"]) == (0, 0)
    assert max(near["angle_high"] for near in found) <= math.pi


def test_the_radius_of_a_rate_is_that_of_the_pairs(client: TestClient) -> None:
    answer = ask(client, "law", false_match_rate=0.02).json()
    (certificate,), (found,) = answer["certificates"], answer["results"]
    matches = certificate["false_matches"]
    # Four of five of the 750 pairs have different labels.
    assert 570 <= matches["pairs"] <= 630
    assert matches["unrelated"] == "labels"
    assert matches["rate"] <= matches["bound"] <= 0.02
    hasher = make_hasher("lsh", n_bits=N_BITS).fit(np.zeros((1, D)))
    codes = hasher.encode(X)
    distances = hamming(codes, codes)
    true_rate = np.mean(distances[Y[:, None] != Y[None]] <= matches["radius"])
    assert true_rate <= 0.02
    assert np.mean(distances[Y[:, None] != Y[None]] <= matches["radius"] + 2) > 0.01
    assert len(found) == (distances[7] <= matches["radius"]).sum() == certificate["within"]
    by_radius = ask(client, "law", radius=matches["radius"]).json()
    assert by_radius["results"] == answer["results"]
    # The same again, and in the URL.
    again = ask(client, "law", false_match_rate=0.02).json()
    assert without_effort(again) == without_effort(answer)
    in_url = client.post(
        "/v1/collections/law/query?false_match_rate=0.02", content=npy(X[7:8]), headers=NPY
    )
    assert without_effort(in_url.json()) == without_effort(answer)


def test_without_labels_all_pairs_count_as_unrelated(client: TestClient) -> None:
    for name in ("unlabelled", "codes"):
        (certificate,) = ask(client, name, false_match_rate=0.1).json()["certificates"]
        matches = certificate["false_matches"]
        assert (matches["pairs"], matches["unrelated"]) == (N // 2, "random")
    (certificate,) = ask(client, "one-class", false_match_rate=0.2, k=1).json()["certificates"]
    assert certificate["false_matches"]["unrelated"] == "random"


def test_both_may_be_asked_for_and_reranked(client: TestClient) -> None:
    options: dict[str, Any] = {"calibrated": True, "false_match_rate": 0.05, "k": 5}
    answer = ask(client, "learned", **options, rerank=50).json()
    (certificate,), (found,) = answer["certificates"], answer["results"]
    radius = certificate["false_matches"]["radius"]
    assert found
    assert all(near["distance"] <= radius for near in found)
    assert all(near["angle_low"] <= near["angle"] <= near["angle_high"] for near in found)
    assert all("score" in near for near in found)


def test_an_answer_without_these_options_has_none_of_their_fields(client: TestClient) -> None:
    answer = ask(client, "measured").json()
    assert set(answer["results"][0][0]) == {"id", "distance", "label"}
    assert set(answer["certificates"][0]) == {"exact", "radius", "looked", "tie"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unlabelled", {"calibrated": True}, "keeps no descriptors: calibrated answers need"),
        ("codes", {"calibrated": True}, "holds codes without descriptors"),
        ("estimated", {"calibrated": True}, "ranks by estimated distances"),
        ("estimated", {"false_match_rate": 0.1}, "ranks by estimated distances"),
        ("equal", {"calibrated": True}, "at least 400 pairs of items with different descriptors"),
        ("law", {"false_match_rate": 0.001}, "at least 2,995 pairs with different labels"),
        ("codes", {"false_match_rate": 0.001}, "at least 2,995 pairs of items, in which no item"),
        ("law", {"false_match_rate": 0.1, "radius": 3}, "expected radius or false_match_rate"),
        (
            "measured",
            {"false_match_rate": 0.1, "confidence": 0.9},
            "expected confidence or false_match_rate, which chooses a radius; got both",
        ),
        (
            "law",
            {"false_match_rate": 0.1, "max_score": 3},
            "expected max_score, a limit on estimated distances, or false_match_rate",
        ),
        ("law", {"calibrated": True, "max_score": 3}, "radius takes the place of max_score"),
        ("few", {"calibrated": True}, "at least 200 items, because angles are seen from their"),
        ("law", {"false_match_rate": 0}, "false_match_rate"),
        ("law", {"false_match_rate": 1e-300}, "false_match_rate"),
        ("law", {"false_match_rate": 1}, "false_match_rate"),
        ("law", {"false_match_rate": "0.1"}, "false_match_rate"),
        ("law", {"calibrated": 1}, "calibrated"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    client: TestClient, name: str, options: dict[str, Any], message: str
) -> None:
    answer = client.post(
        f"/v1/collections/{name}/query",
        json=({"descriptors": [[1.0] * D]} if name == "estimated" else {"ids": ["i0007"]})
        | options,
    )
    assert_problem(answer, 422, message)


def test_few_items_of_hyperplanes_get_the_law(client: TestClient) -> None:
    def law() -> str:
        (certificate,) = ask(client, "few-law", calibrated=True).json()["certificates"]
        return str(certificate["calibration"]["law"])

    assert law() == "binomial"
    put(client, "few-law", X[199:230], IDS[199:230])
    assert law() == "pairs"


def test_nothing_is_measured_for_a_query_that_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*args: Any) -> None:
        pytest.fail("measured")

    monkeypatch.setattr(calibrations, "pairs_by_distance", measured)
    monkeypatch.setattr(calibrations, "distance_counts", measured)
    for more, message in (
        ({"confidence": 0.9, "filter": {"label": 1}}, "goes without filter and radius"),
        ({"confidence": 0.9, "radius": 3}, "goes without filter and radius"),
        ({"confidence": 0.9, "false_match_rate": 0.3}, "expected confidence or false_match_rate"),
        ({"max_score": 3}, "radius takes the place of max_score"),
    ):
        assert_problem(ask(client, "unasked", calibrated=True, **more), 422, message)


def test_an_empty_collection_is_refused(client: TestClient) -> None:
    query = {"descriptors": [[1.0] * D]}
    for options, message in (
        (
            {"calibrated": True},
            "200 items, because angles are seen from their mean; collection 'empty' has 0",
        ),
        ({"false_match_rate": 0.1}, "needs at least 29 pairs of items"),
    ):
        answer = client.post("/v1/collections/empty/query", json=query | options)
        assert_problem(answer, 422, message)


def test_codes_that_are_all_equal_have_no_radius(client: TestClient) -> None:
    answer = client.post(
        "/v1/collections/equal/query", json={"ids": ["i0007"], "false_match_rate": 0.1}
    )
    assert_problem(answer, 422, "longer codes are needed")
