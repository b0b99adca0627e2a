"""The OpenAPI document says what the service takes and gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
from fastapi.testclient import TestClient

from app.http.examples import ANSWERS, BODIES


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


def operations(document: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{method.upper()} {path}": call
        for path, methods in document["paths"].items()
        for method, call in methods.items()
    }


def check(document: dict[str, Any], schema: Any, value: Any) -> None:
    components = {"components": document["components"]}
    jsonschema_rs.Draft202012Validator(components | schema).validate(value)


def test_every_call_has_examples_that_are_as_it_says(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    answers, bodies = set(), set()
    for at, call in operations(document).items():
        for parameter in call.get("parameters", []):
            check(document, parameter["schema"], parameter["example"])
        for media_type, content in call.get("requestBody", {}).get("content", {}).items():
            if content["schema"].get("format") == "binary":
                continue  # JSON, which the document is, cannot hold one.
            assert media_type == "application/json"
            assert content["examples"], at
            bodies.add(at)
            for example in content["examples"].values():
                check(document, content["schema"], example["value"])
        for status, answer in call["responses"].items():
            for media_type, content in answer.get("content", {}).items():
                if media_type == "application/x-npy":
                    continue
                check(document, content.get("schema", {}), content["example"])
                if status.startswith("2"):
                    answers.add(f"{at} {status}")
    assert answers == set(ANSWERS)
    assert bodies == set(BODIES)


def keys(value: Any) -> Any:
    """What an answer has, whatever is in it."""
    if isinstance(value, list):
        return [keys(one) for one in value]
    return (
        {name: keys(one) for name, one in value.items()} if isinstance(value, dict) else type(value)
    )


ORDER = (
    "POST /v1/encoders",
    "POST /v1/encoders/{name}/encode",
    "POST /v1/gist",
    "POST /v1/collections",
    "PUT /v1/collections/{name}/items",
    "POST /v1/collections/{name}/query",
    "POST /v1/collections/{name}/snapshots",
    "POST /v1/collections/{name}/restore",
    "POST /v1/collections/{name}/reencode",
    "POST /v1/benchmarks",
    "POST /v1/collections/{name}/items/delete",
)


def test_the_service_takes_every_example(client: TestClient, tmp_path: Path) -> None:
    assert set(ORDER) == {*BODIES, "POST /v1/collections/{name}/snapshots"}
    for at in ORDER:
        method, path = at.split()
        names = {"POST /v1/encoders/{name}/encode": "mine"}
        names["POST /v1/collections/{name}/restore"] = "things-again"
        path = path.replace("{name}", names.get(at, "things"))
        for body in BODIES.get(at, {"none": None}).values():
            answer = client.request(method, path, json=body)
            assert answer.status_code < 300, (at, answer.text)
            first = body == next(iter(BODIES.get(at, {"none": None}).values()))
            if not first:
                continue
            said = ANSWERS[f"{at} {answer.status_code}"]
            assert keys(answer.json()) == keys(said), at
            # All but what is made up as it is asked for is what the service says.
            if answer.status_code != 202 and "snapshot" not in answer.json():
                assert answer.json() == said
            if "snapshot" in answer.json():
                folder = tmp_path / "data" / "snapshots"
                (folder / answer.json()["snapshot"]).rename(folder / said["snapshot"])
