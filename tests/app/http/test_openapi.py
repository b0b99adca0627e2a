"""The OpenAPI document matches what the service accepts and returns."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
from fastapi.testclient import TestClient

from app.http.examples import ANSWERS, BODIES
from app.main import create_app
from tests.app.recommend.done import done_recommendation


def test_every_reference_has_a_target(client: TestClient) -> None:
    text = client.get("/openapi.json").text
    schemas = json.loads(text)["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert references <= set(schemas)
    assert {"NewItems", "Query", "QueryOut", "Problem", "NewEncoder", "Training"} <= references


def test_every_call_with_a_body_describes_it(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    calls = [
        (path, method, call)
        for path, methods in paths.items()
        for method, call in methods.items()
        if method in ("post", "put", "patch")
        and not path.endswith(("/snapshots", "/drift/reference"))
    ]
    assert len(calls) == 22
    for path, method, call in calls:
        assert call["requestBody"]["content"], (path, method)
        assert call["summary"]


def test_every_call_that_writes_can_answer_507(client: TestClient) -> None:
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
    for name in ("query", "items/count", "items/list"):
        assert (f"/v1/collections/{{name}}/{name}", "post") not in full
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


def test_examples_match_their_schemas(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    answers, bodies = set(), set()
    for at, call in operations(document).items():
        for parameter in call.get("parameters", []):
            check(document, parameter["schema"], parameter["example"])
        for media_type, content in call.get("requestBody", {}).get("content", {}).items():
            if content["schema"].get("format") == "binary":
                continue  # The document is JSON and cannot contain binary examples.
            assert media_type == "application/json"
            assert content["examples"], at
            bodies.add(at)
            for example in content["examples"].values():
                check(document, content["schema"], example["value"])
        for status, answer in call["responses"].items():
            for media_type, content in answer.get("content", {}).items():
                if media_type in ("application/x-npy", "application/octet-stream"):
                    continue
                check(document, content.get("schema", {}), content["example"])
                if status.startswith("2"):
                    answers.add(f"{at} {status}")
    assert answers == set(ANSWERS)
    assert bodies == set(BODIES)


def structure(value: Any) -> Any:
    """Return the structure of an answer, without its values."""
    if isinstance(value, list):
        return [structure(element) for element in value]
    if isinstance(value, dict):
        return {name: structure(element) for name, element in value.items()}
    return type(value)


ORDER = (
    "POST /v1/encoders",
    "POST /v1/encoders/{name}/encode",
    "POST /v1/gist",
    "POST /v1/collections",
    "PUT /v1/collections/{name}/items",
    "POST /v1/collections/{name}/query",
    "POST /v1/collections/{name}/items/count",
    "POST /v1/collections/{name}/items/list",
    "PATCH /v1/collections/{name}/items/{item_id}",
    "PATCH /v1/collections/{name}/items",
    "PUT /v1/collections/{name}",
    "POST /v1/collections/{name}/snapshots",
    "POST /v1/collections/{name}/restore",
    "POST /v1/collections/{name}/reencode",
    "POST /v1/collections/{name}/duplicates",
    "POST /v1/benchmarks",
    "POST /v1/recommendations",
    "POST /v1/recommendations/{recommendation}/make",
    "POST /v1/explanations",
    "POST /v1/collections/{name}/items/delete",
)


def test_the_service_accepts_every_example(client: TestClient, tmp_path: Path) -> None:
    assert set(ORDER) == {*BODIES, "POST /v1/collections/{name}/snapshots"}
    for at in ORDER:
        method, path = at.split()
        names = {"POST /v1/encoders/{name}/encode": "mine"}
        names["POST /v1/collections/{name}/restore"] = "things-again"
        if "{recommendation}" in path:
            path = path.replace("{recommendation}", done_recommendation(client))
        path = path.replace("{name}", names.get(at, "things")).replace("{item_id}", "cup")
        for title, body in BODIES.get(at, {"none": None}).items():
            # Items of a collection with an encoder have no codes of their own.
            of_codes = title == "codes of your own"
            url = path.replace("things", "hashes") if of_codes else path
            answer = client.request(method, url, json=body)
            assert answer.status_code < 300, (at, answer.text)
            first = body == next(iter(BODIES.get(at, {"none": None}).values()))
            if not first:
                continue
            example = ANSWERS[f"{at} {answer.status_code}"]
            assert structure(answer.json()) == structure(example), at
            # Only names of jobs and snapshots differ from the example, and what a job has found.
            is_found = "snapshot" in answer.json() or "{recommendation}" in at
            if answer.status_code != 202 and not is_found:
                assert answer.json() == example
            if "snapshot" in answer.json():
                folder = tmp_path / "data" / "snapshots"
                (folder / answer.json()["snapshot"]).rename(folder / example["snapshot"])


def test_operations_have_short_ids_of_their_own() -> None:
    calls = [
        call for methods in create_app().openapi()["paths"].values() for call in methods.values()
    ]
    ids = [call["operationId"] for call in calls]
    assert len(set(ids)) == len(ids)
    assert "query_collection" in ids
    assert not [name for name in ids if "v1" in name]
