"""The OpenAPI document says what the service takes and gives."""

from __future__ import annotations

import json
import re

from fastapi.testclient import TestClient


def test_every_reference_leads_somewhere(client: TestClient) -> None:
    text = client.get("/openapi.json").text
    schemas = json.loads(text)["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert references <= set(schemas)
    assert {"NewItems", "Query", "QueryOut", "Problem", "NewEncoder", "Training"} <= references


def test_every_call_that_changes_something_states_its_body(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    calls = [
        (path, method, call)
        for path, methods in paths.items()
        for method, call in methods.items()
        if method in ("post", "put") and not path.endswith("/snapshots")
    ]
    assert len(calls) == 11
    for path, method, call in calls:
        assert call["requestBody"]["content"], (path, method)
        assert call["summary"]


def test_every_call_that_writes_may_find_the_disk_full(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    full = {
        (path, method)
        for path, methods in paths.items()
        for method, call in methods.items()
        if "507" in call["responses"]
    }
    for name in ("reencode", "snapshots", "restore", "items", "items/delete"):
        method = "put" if name == "items" else "post"
        assert (f"/v1/collections/{{name}}/{name}", method) in full
    assert ("/v1/collections/{name}/query", "post") not in full
    assert not [method for _, method in full if method == "get"]
