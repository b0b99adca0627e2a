"""Collections that another replica drops or re-encodes during a request."""

from __future__ import annotations

from typing import Any

import pytest

from app.service.service import Service
from index import Collection, NotFound, Replaced, ServerError, Unavailable
from tests.app.asgi_client import TestClient

ITEMS = {"items": [{"id": "a", "code": "ffff"}]}


@pytest.fixture
def gone(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> dict[int, Exception]:
    """Two collections, c and d; the errors that their count raises, by key."""
    errors: dict[int, Exception] = {}
    count = Collection.__len__

    def count_or_raise(collection: Collection) -> int:
        if (error := errors.get(collection.key)) is not None:
            raise error
        return count(collection)

    for name in "cd":
        answer = client.post("/v1/collections", json={"name": name, "n_bits": 16})
        assert answer.status_code == 201
    monkeypatch.setattr(Collection, "__len__", count_or_raise)
    return errors


def key_of(client: TestClient, name: str) -> int:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service.collections.get(name).key


def test_lists_and_metrics_leave_out_what_is_gone(
    client: TestClient, gone: dict[int, Exception]
) -> None:
    gone[key_of(client, "c")] = NotFound("there is no collection 'c'")
    answer = client.get("/v1/collections")
    assert answer.status_code == 200
    assert [each["name"] for each in answer.json()] == ["d"]
    metrics = client.get("/metrics")
    assert metrics.status_code == 200
    assert 'bitcell_items{collection="d"} 0.0' in metrics.text
    assert 'bitcell_items{collection="c"}' not in metrics.text
    gone[key_of(client, "c")] = ServerError("Milvus refuses this")
    metrics = client.get("/metrics")
    assert metrics.status_code == 200
    assert "bitcell_items{" not in metrics.text
    assert "bitcell_encoders 0.0" in metrics.text


def test_a_write_that_is_done_is_answered_although_the_collection_is_gone(
    client: TestClient, gone: dict[int, Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone[key_of(client, "c")] = NotFound("there is no collection 'c'")
    answer = client.put("/v1/collections/c/items", json=ITEMS)
    assert (answer.status_code, answer.json()) == (200, {"upserted": 1, "items": 0})
    changes: dict[str, Any] = {"items": [{"id": "a", "label": 3}]}
    answer = client.patch("/v1/collections/c/items", json=changes)
    assert (answer.status_code, answer.json()) == (200, {"changed": 1, "items": 0})
    # A server that is away when the items are counted for the drift test.
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    collection = service.collections.get("d")
    for error in (Unavailable("later"), ServerError("no"), Replaced("re-encoded")):
        gone[collection.key] = error
        assert client.delete("/v1/collections/d/items/a").status_code == 404
        service.collections.upsert("d", ["a"], codes=["ffff"])
        assert client.delete("/v1/collections/d/items/a").status_code == 204
