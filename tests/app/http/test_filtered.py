"""Count, list, delete and change items over HTTP; collections that are made or found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app.main import create_app
from app.service.settings import Settings
from tests.app.asgi_client import TestClient
from tests.app.conftest import contents_of, fill, settings_in
from tests.app.problems import assert_problem
from tests.index.filter_oracle import holds

URL = "/v1/collections/c"
FILTERS: list[Any] = [
    {"tags": {"contains": "t1"}},
    {"tags": {"all": ["t0", 3]}, "label": {"lt": 3}},
    {"not": {"tags": {"any": [0, 1, 2, "t0"]}}},
    {"id": {"in": [f"i{n:02}" for n in range(0, 5000, 3)]}},
    {".id": {"gte": 4}, '."a.b".c': True},
]
ITEMS: list[Any] = [
    {
        "id": f"i{n:02}",
        "descriptor": [n, 1, 2, 3],
        "label": n % 5,
        "payload": {"tags": [f"t{n % 3}", n % 7], "id": n % 8, "a.b": {"c": n % 2 == 0}},
    }
    for n in range(60)
]


def put_items(client: TestClient) -> None:
    fill(client)
    assert client.post(f"{URL}/items/delete", json={"ids": ["a", "b", "c/d e"]}).is_success
    assert client.put(f"{URL}/items", json={"items": ITEMS}).is_success


@pytest.fixture
def filled(client: TestClient) -> TestClient:
    put_items(client)
    return client


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client for the tests that change nothing."""
    with TestClient(create_app(settings_in(tmp_path_factory.mktemp("filtered")))) as client:
        put_items(client)
        yield client


def matching(where: Any) -> list[Any]:
    return [x for x in ITEMS if holds(where, x["id"], x["label"], x["payload"])]


@pytest.mark.parametrize("where", FILTERS)
def test_items_that_match_are_counted_listed_and_deleted(filled: TestClient, where: Any) -> None:
    expected = [item["id"] for item in matching(where)]
    assert 0 < len(expected) < 60
    body = {"filter": where}
    assert filled.post(f"{URL}/items/count", json=body).json() == {"count": len(expected)}
    listed: list[str] = []
    while len(listed) < len(expected):
        page = body | {"limit": 7, "offset": len(listed)}
        answer = filled.post(f"{URL}/items/list", json=page).json()
        assert answer["of"] == len(expected)
        assert answer["items"][0] == filled.get(f"{URL}/items/{expected[len(listed)]}").json()
        listed += [item["id"] for item in answer["items"]]
    assert listed == expected
    query = body | {"descriptors": [[1, 2, 3, 4]], "k": 100}
    (found,) = filled.post(f"{URL}/query", json=query).json()["results"]
    assert sorted(near["id"] for near in found) == expected
    assert filled.post(f"{URL}/items/delete", json=body).json() == {"deleted": len(expected)}
    assert filled.post(f"{URL}/items/delete", json=body).json() == {"deleted": 0}
    left = filled.get(f"{URL}/items", params={"limit": 1000}).json()["items"]
    assert [item["id"] for item in left] == [x["id"] for x in ITEMS if x["id"] not in expected]


def test_a_label_or_a_payload_is_changed_alone(filled: TestClient, settings: Settings) -> None:
    before = filled.get(f"{URL}/items/i07").json()
    assert before["label"] == 2
    change: dict[str, Any] = {"payload": {"a.b": {"c": None, "d": [1]}, "id": None}}
    payload = {"tags": ["t1", 0], "a.b": {"d": [1]}}
    changed = filled.patch(f"{URL}/items/i07", json=change)
    assert changed.json() == before | {"payload": payload}
    assert filled.get(f"{URL}/items/i07").json() == changed.json()
    assert filled.patch(f"{URL}/items/i07", json={"label": None}).json() == {
        "id": "i07",
        "code": before["code"],
        "payload": payload,
    }
    items = [{"id": "i08", "payload": None, "label": 9}, {"id": "i07", "label": 1}]
    answer = filled.patch(f"{URL}/items", json={"items": items})
    assert answer.json() == {"changed": 2, "items": 60}
    assert set(filled.get(f"{URL}/items/i08").json()) == {"id", "code", "label"}
    assert filled.post(f"{URL}/items/count", json={"filter": {"label": 9}}).json()["count"] == 1
    filled.__exit__()
    with TestClient(create_app(settings)) as again:
        shown = again.get(f"{URL}/items/i07").json()
        assert shown == before | {"payload": payload, "label": 1}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("PATCH", "items/i01", {}, 422, "expected a label, a payload or both"),
        ("PATCH", "items/i01", {"id": "x", "label": 1}, 422, "no field of this name"),
        ("PATCH", "items/i01", {"label": 1.5}, 422, "label: "),
        ("PATCH", "items/i01", {"payload": [1]}, 422, "payload: "),
        ("PATCH", "items/i01", {"payload": {"a": "x" * 66_000}}, 422, "at most 65536 bytes"),
        ("PATCH", "items/nobody", {"label": 1}, 404, "no item 'nobody'"),
        ("PATCH", "items", {"items": []}, 422, "items: "),
        ("PATCH", "items", {"items": [{"label": 1}]}, 422, "items.0.id: "),
        ("PATCH", "items", {"items": [{"id": "i01", "label": 1}] * 2}, 422, "occurs twice"),
        (
            "PATCH",
            "items",
            {"items": [{"id": "i01", "label": 1}, {"id": "nobody", "label": 1}]},
            404,
            "no item 'nobody'",
        ),
        ("POST", "items/delete", {}, 422, "expected ids of items or a filter"),
        ("POST", "items/delete", {"ids": ["i01"], "filter": {"label": 1}}, 422, "either ids"),
        ("POST", "items/delete", {"filter": {}}, 422, "at least one field"),
        ("POST", "items/delete", {"filter": None}, 422, "expected ids of items or a filter"),
        ("POST", "items/count", {}, 422, "filter: "),
        ("POST", "items/count", {"filter": {"a": {"has": 1}}}, 422, "{'contains': value}"),
        ("POST", "items/list", {"filter": {"label": 1}, "limit": 1001}, 422, "limit: "),
        ("POST", "items/list", {"filter": {"label": 1}, "offset": -1}, 422, "offset: "),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(
    shared: TestClient, method: str, path: str, body: Any, status: int, detail: str
) -> None:
    before = contents_of(shared)
    answer = shared.request(method, f"{URL}/{path}", json=body)
    assert_problem(answer, status, detail)
    assert contents_of(shared) == before
    elsewhere = shared.request(method, f"/v1/collections/nowhere/{path}", json=body)
    assert elsewhere.status_code in (404, status)


def test_a_filter_that_takes_too_long_deletes_nothing(settings: Settings) -> None:
    hasty = settings.model_copy(update={"query_timeout": 1e-6})
    with TestClient(create_app(hasty)) as client:
        fill(client)
        for call in ("count", "list", "delete"):
            answer = client.post(f"{URL}/items/{call}", json={"filter": {"n": None}})
            assert answer.status_code == 503
            assert "BITCELL_QUERY_TIMEOUT" in answer.json()["detail"]
        assert client.get(URL).json()["items"] == 3


def test_a_page_or_a_change_that_is_too_large_is_refused(settings: Settings) -> None:
    with TestClient(create_app(settings.model_copy(update={"max_answer": 1 << 20}))) as client:
        fill(client)
        items = [
            {"id": f"{n}", "descriptor": [1, 2, 3, 4], "payload": {"x": "x" * 60_000}}
            for n in range(18)
        ]
        for part in (items[:9], items[9:]):
            assert client.put(f"{URL}/items", json={"items": part}).is_success
        body = {"filter": {"x": {"gte": ""}}, "limit": 20}
        answer = client.post(f"{URL}/items/list", json=body)
        assert answer.status_code == 413
        assert "ask for fewer items than `limit` = 20" in answer.json()["detail"]
        # A change writes whole payloads again, which are more than the request has.
        changes = [{"id": item["id"], "label": 5} for item in items]
        answer = client.patch(f"{URL}/items", json={"items": changes})
        assert answer.status_code == 413
        assert "change fewer items in one request" in answer.json()["detail"]
        assert client.post(f"{URL}/items/count", json={"filter": {"label": 5}}).json()["count"] == 0
        assert client.patch(f"{URL}/items", json={"items": changes[:9]}).json()["changed"] == 9
        assert (
            client.post(f"{URL}/items/count", json={"filter": body["filter"]}).json()["count"] == 18
        )


def test_a_collection_is_made_once_and_then_found(filled: TestClient) -> None:
    new = {"encoder": "e", "keep_descriptors": True}
    answers = [filled.put("/v1/collections/new", json=new) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json() == answers[1].json() == filled.get("/v1/collections/new").json()
    assert filled.put("/v1/collections/c", json={"encoder": "e"}).json()["items"] == 60
    other = filled.put("/v1/collections/c", json=new)
    assert other.status_code == 409
    assert "'keep_descriptors': True}; it has {'encoder': 'e', 'keep_descriptors': F" in other.text
    for n_bits, status in ((64, 201), (64, 200), (65, 409)):
        assert filled.put("/v1/collections/y", json={"n_bits": n_bits}).status_code == status
    assert filled.put("/v1/collections/y", json={"encoder": "e"}).status_code == 409
    assert filled.put("/v1/collections/c", json={"n_bits": 12}).status_code == 409
    assert filled.put("/v1/collections/c", json={"n_bits": 12, "encoder": "e"}).status_code == 422
    assert filled.put("/v1/collections/x", json={"encoder": "nobody"}).status_code == 404
    assert filled.put("/v1/collections/x", json={"encoder": "e", "n": 1}).status_code == 422
    assert filled.put("/v1/collections/-", json={"encoder": "e"}).status_code == 422
