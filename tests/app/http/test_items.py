"""Items, queries and snapshots over HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.main import create_app
from app.service.settings import Settings
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy
from tests.app.jobs.waiting import ended

URL = "/v1/collections/c"


@pytest.mark.parametrize("n_bits", [12, 24, 48, 64, 100, 256])
def test_query_results_equal_a_popcount_oracle(
    n_bits: int, client: TestClient, X: NDArray[Any]
) -> None:
    # The codes come from the service; the test counts the bits.
    new: dict[str, Any] = {"name": "e", "method": "lsh", "n_bits": n_bits}
    new["training"] = {"descriptors": X[:50].tolist()}
    assert client.post("/v1/encoders", json=new).status_code == 201
    assert client.post("/v1/collections", json={"name": "c", "encoder": "e"}).status_code == 201
    ids = np.array([f"{i * 7919 % 600:x}" for i in range(400)])
    labels = np.arange(400) % 10
    body = npy(X[:400].astype(np.float16), ids, labels)
    assert client.put(f"{URL}/items", content=body, headers=NPY).json()["items"] == 400

    def codes(x: NDArray[Any]) -> list[int]:
        headers = NPY | {"Accept": "application/json"}
        answer = client.post("/v1/encoders/e/encode", content=npy(x), headers=headers)
        return [int(code, 16) for code in answer.json()["codes"]]

    db, queries = codes(X[:400].astype(np.float16)), X[395:420]
    label_of = dict(zip(ids.tolist(), labels.tolist(), strict=True))
    for k, radius in ((1, None), (10, None), (400, None), (500, None), (30, n_bits // 4)):
        query_body = {"descriptors": queries.tolist(), "k": k, "radius": radius}
        results = client.post(f"{URL}/query", json=query_body).json()["results"]
        for query, near in zip(codes(queries), results, strict=True):
            ranked = sorted(
                ((query ^ code).bit_count(), i) for code, i in zip(db, ids.tolist(), strict=True)
            )
            expected = [(d, i) for d, i in ranked if radius is None or d <= radius][:k]
            assert [(found["distance"], found["id"]) for found in near] == expected
            assert all(found["label"] == label_of[found["id"]] for found in near)
        url = f"{URL}/query?k={k}" + (f"&radius={radius}" if radius else "")
        assert client.post(url, content=npy(queries), headers=NPY).json()["results"] == results


def test_items_are_shown_replaced_and_deleted(small: TestClient) -> None:
    first = small.get(f"{URL}/items/a").json()
    assert first["label"] == 7
    assert first["payload"] == {"n": None}
    other = small.get(f"{URL}/items/c%2Fd e").json()
    assert other == {"id": "c/d e", "code": first["code"], "payload": {}}

    item = {"id": "a", "descriptor": [-1, -2, -3, -4]}
    assert small.put(f"{URL}/items", json={"items": [item]}).json() == {"upserted": 1, "items": 3}
    replaced = small.get(f"{URL}/items/a").json()
    assert set(replaced) == {"id", "code"}
    assert int(replaced["code"], 16) ^ int(first["code"], 16) == 0xFFF0

    assert small.delete(f"{URL}/items/c/d e").status_code == 204
    assert small.delete(f"{URL}/items/c/d e").status_code == 404
    assert small.get(f"{URL}/items/c/d e").status_code == 404
    deleted = small.post(f"{URL}/items/delete", json={"ids": ["a", "nobody", "b"]})
    assert deleted.json() == {"deleted": 2}
    assert small.get(URL).json()["items"] == 0
    query = {"descriptors": [[1, 2, 3, 4]], "k": 5}
    assert small.post(f"{URL}/query", json=query).json()["results"] == [[]]


def test_integers_are_ids_in_decimal(small: TestClient) -> None:
    items = [{"id": i, "descriptor": [int(i), 1, 2, 3]} for i in (7, -8, "9")]
    assert small.put(f"{URL}/items", json={"items": items}).json()["upserted"] == 3
    body = npy(np.ones((3, 4)), np.array([10, 11, 12], np.uint8))
    assert small.put(f"{URL}/items", content=body, headers=NPY).json()["upserted"] == 3
    listed = [item["id"] for item in small.get(f"{URL}/items").json()["items"]]
    assert listed[-6:] == ["7", "-8", "9", "10", "11", "12"]
    by_number, by_text = (
        small.post(f"{URL}/query", json={"ids": ids}).json()
        for ids in ([7, 9, -8], ["7", "9", "-8"])
    )
    assert by_number == by_text
    change = {"items": [{"id": 7, "label": 3}]}
    assert small.patch(f"{URL}/items", json=change).json()["changed"] == 1
    assert small.get(f"{URL}/items/7").json()["label"] == 3
    assert small.post(f"{URL}/items/delete", json={"ids": [7, "8", 10]}).json() == {"deleted": 2}
    twice = {"items": [{"id": i, "descriptor": [1, 1, 2, 3]} for i in (7, "7")]}
    assert "'7' occurs twice" in small.put(f"{URL}/items", json=twice).json()["detail"]


@pytest.mark.parametrize("item_id", [None, 1.0, True, ["a"], {}])
def test_what_is_no_string_and_no_integer_is_no_id(item_id: Any, small: TestClient) -> None:
    item = {"id": item_id, "descriptor": [1, 2, 3, 4]}
    answers = [
        small.put(f"{URL}/items", json={"items": [item]}),
        small.post(f"{URL}/query", json={"ids": ["a", item_id]}),
        small.post(f"{URL}/items/delete", json={"ids": ["a", item_id]}),
    ]
    for answer in answers:
        assert answer.status_code == 422
        assert "Input should be a valid string or integer; got" in answer.json()["detail"]


def test_a_query_by_id_equals_a_query_by_descriptor(small: TestClient) -> None:
    by_id = small.post(f"{URL}/query", json={"ids": ["b", "a"], "k": 2}).json()
    x = [[-1, 2, -3, 4.5], [1, 2, 3, 4]]
    assert small.post(f"{URL}/query", json={"descriptors": x, "k": 2}).json() == by_id
    assert [near[0]["id"] for near in by_id["results"]] == ["b", "a"]
    assert [near[0]["distance"] for near in by_id["results"]] == [0, 0]


def test_a_radius_without_k_returns_all_items_within(small: TestClient) -> None:
    ids = np.array([f"copy-{i}" for i in range(40)])
    small.put(f"{URL}/items", content=npy(np.tile([1, 2, 3, 4], (40, 1)), ids), headers=NPY)
    body = {"descriptors": [[1, 2, 3, 4]]}
    assert len(small.post(f"{URL}/query", json=body).json()["results"][0]) == 10
    (near,) = small.post(f"{URL}/query", json=body | {"radius": 0}).json()["results"]
    assert [found["id"] for found in near] == sorted(["a", "c/d e", *ids.tolist()])


def test_payloads_can_be_left_out(small: TestClient) -> None:
    query = {"ids": ["a"], "payloads": False}
    (near,) = small.post(f"{URL}/query", json=query).json()["results"]
    assert not any("payload" in found for found in near)
    assert near[0]["label"] == 7


def test_collections_are_listed_and_dropped(small: TestClient) -> None:
    fingerprint = small.get("/v1/encoders/e").json()["fingerprint"]
    shown: dict[str, Any] = {
        "name": "c",
        "encoder": "e",
        "fingerprint": fingerprint,
        "n_bits": 12,
        "items": 3,
    }
    shown |= {"keep_descriptors": False, "descriptor_type": None}
    shown |= {"ranking": "hamming", "metric": None}
    assert small.get(URL).json() == shown
    assert small.get("/v1/collections").json() == [shown]
    assert small.delete(URL).status_code == 204
    assert small.get("/v1/collections").json() == []
    assert small.get(URL).status_code == 404


def test_items_survive_a_restart(settings: Settings) -> None:
    with TestClient(create_app(settings)) as client:
        new = {"name": "e", "method": "lsh", "n_bits": 100, "dimension": 4}
        client.post("/v1/encoders", json=new)
        client.post("/v1/collections", json={"name": "c", "encoder": "e"})
        item = {"id": "ü", "descriptor": [1, 2, 3, 4], "label": 2**63 - 1, "payload": {"a": [1]}}
        client.put(f"{URL}/items", json={"items": [item]})
        before = client.get(f"{URL}/items/ü").json()
    with TestClient(create_app(settings)) as client:
        assert client.get(f"{URL}/items/ü").json() == before
        query = {"descriptors": [[1, 2, 3, 4]]}
        ((near,),) = client.post(f"{URL}/query", json=query).json()["results"]
        assert near == {"id": "ü", "distance": 0, "label": 2**63 - 1, "payload": {"a": [1]}}


def test_filters_pages_and_certificates(small: TestClient) -> None:
    def ask(**more: Any) -> Any:
        query = {"descriptors": [[1, 2, 3, 4]]} | more
        return small.post(f"{URL}/query", json=query).json()

    whole = ask()
    assert [near["id"] for near in whole["results"][0]] == ["a", "c/d e", "b"]
    (certificate,) = whole["certificates"]
    # Two items share a code. It counts once as soon as the items have moved to a segment.
    assert certificate.pop("looked") in (2, 3)
    assert certificate == {"exact": True, "radius": 12, "tie": 1}
    assert ask(k=1)["certificates"][0]["tie"] == 2
    assert [near["id"] for near in ask(k=1, offset=1)["results"][0]] == ["c/d e"]
    assert [near["id"] for near in ask(filter={"label": 7})["results"][0]] == ["a"]
    assert [near["id"] for near in ask(filter={"not": {"n": None}})["results"][0]] == ["c/d e", "b"]
    scored = ask(k=3, rerank=3)["results"][0]
    assert [near["score"] for near in scored] == sorted(near["score"] for near in scored)
    by_ids = small.post(f"{URL}/query", json={"ids": ["a"], "k": 1, "rerank": 3})
    assert by_ids.status_code == 422
    assert "give the descriptors of the queries instead of ids" in by_ids.json()["detail"]


def test_kept_descriptors_allow_reranking_and_reencoding(client: TestClient) -> None:
    for name, n_bits in (("e", 12), ("f", 20)):
        new = {"name": name, "method": "lsh", "n_bits": n_bits, "dimension": 4}
        assert client.post("/v1/encoders", json=new).status_code == 201
    collection = {"name": "c", "encoder": "e", "keep_descriptors": True}
    assert client.post("/v1/collections", json=collection).json()["keep_descriptors"]
    X = np.random.default_rng(0).normal(size=(50, 4)).round(2)
    ids = [f"{i:02}" for i in range(50)]
    items = [{"id": i, "descriptor": x} for i, x in zip(ids, X.tolist(), strict=True)]
    client.put(f"{URL}/items", json={"items": items})
    nearest = sorted(ids, key=lambda i: float(np.linalg.norm(X[int(i)] - X[7])))
    for by in ({"ids": ["07"]}, {"descriptors": [X[7].tolist()]}):
        found = client.post(f"{URL}/query", json=by | {"k": 5, "rerank": 50}).json()["results"][0]
        assert [near["id"] for near in found] == nearest[:5]
    accepted = client.post(f"{URL}/reencode", json={"encoder": "f"})
    assert accepted.status_code == 202
    job = accepted.json()["id"]
    assert accepted.headers["location"] == accepted.json()["url"] == f"/v1/jobs/{job}"
    shown = ended(client, job)
    assert shown["state"] == "done", shown
    again = client.get(URL).json()
    assert shown["result"] == {
        "collection": "c",
        **{key: again[key] for key in ("encoder", "fingerprint", "n_bits", "items")},
    }
    assert (again["encoder"], again["n_bits"], again["items"]) == ("f", 20, 50)
    assert client.post(f"{URL}/reencode", json={"encoder": "nobody"}).status_code == 404
    assert len(client.get(f"{URL}/items/07").json()["code"]) == 6
    encoded = client.post("/v1/encoders/f/encode", json={"descriptors": [X[7].tolist()]}).json()
    found = client.post(f"{URL}/query", json={"ids": ["07"], "k": 1}).json()["results"][0]
    assert found == [{"id": "07", "distance": 0}]
    assert len(encoded["codes"][0]) == 6


def test_snapshots_are_restored_under_another_name(small: TestClient, settings: Settings) -> None:
    snapshot = small.post(f"{URL}/snapshots").json()
    assert snapshot["items"] == 3
    restored = small.post("/v1/collections/d/restore", json={"snapshot": snapshot["snapshot"]})
    assert restored.status_code == 201
    query = {"descriptors": [[1, 2, 3, 4]]}
    url = "/v1/collections/{}/query"
    answers = [small.post(url.format(name), json=query).json()["results"] for name in "cd"]
    assert answers[0] == answers[1]
    again = small.post("/v1/collections/d/restore", json={"snapshot": snapshot["snapshot"]})
    assert again.status_code == 409
    for name in ("nothing", "../bitcell.db", "..", "", "a" * 256, "a" * 5000):
        missing = small.post("/v1/collections/x/restore", json={"snapshot": name})
        assert missing.status_code == 404
    path = settings.data_dir / "snapshots" / snapshot["snapshot"]
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    bad = small.post("/v1/collections/x/restore", json={"snapshot": snapshot["snapshot"]})
    assert bad.status_code == 422
    assert "is damaged" in bad.json()["detail"]
    assert small.get("/v1/collections/x").status_code == 404


def test_a_full_disk_answers_507(small: TestClient) -> None:
    service = small.app.state.service  # type: ignore[attr-defined]
    with service.database.transaction() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    X, ids = np.ones((5000, 4)), np.array([f"i{i}" for i in range(5000)])
    full = small.put(f"{URL}/items", content=npy(X, ids), headers=NPY)
    assert full.status_code == 507
    assert "nothing of this write was kept" in full.json()["detail"]
    connection.execute("PRAGMA max_page_count = 1000000")
    assert small.put(f"{URL}/items", content=npy(X, ids), headers=NPY).json()["items"] == 5003
