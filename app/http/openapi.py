"""The OpenAPI document: what FastAPI finds, and what handlers that parse for themselves take."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from app.http import schemas
from app.http.examples import ANSWERS, BODIES, PARAMETERS, PROBLEM
from app.http.middleware.access import writes
from app.http.problems import MEDIA_TYPE

# Handlers parse their bodies themselves, so FastAPI does not find these.
_BODIES = (
    schemas.NewEncoder,
    schemas.ToEncode,
    schemas.Images,
    schemas.NewCollection,
    schemas.Reencode,
    schemas.Restore,
    schemas.NewItems,
    schemas.Ids,
    schemas.Query,
    schemas.NewBenchmark,
    schemas.Problem,
)


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an application, made when it is first asked for."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        _, found = models_json_schema(
            [(model, "validation") for model in _BODIES],
            ref_template="#/components/schemas/{model}",
        )
        known = made["components"]["schemas"] | found["$defs"]
        # FastAPI's own form of a 422, which no call here has.
        made["components"]["schemas"] = {
            name: schema
            for name, schema in known.items()
            if name not in ("HTTPValidationError", "ValidationError")
        }
        for path, methods in made["paths"].items():
            for method, call in methods.items():
                _complete(method.upper(), path, call)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(method: str, path: str, call: dict[str, Any]) -> None:
    """Add to a call the problems it may answer with, and examples."""
    answers = call["responses"]
    answers.pop("422", None)
    answers["4XX"] = _problem("A problem with the request")
    if writes(method, path):
        answers["507"] = _problem("There is no room on the disk")
    for parameter in call.get("parameters", []):
        if parameter["name"] in PARAMETERS:
            parameter["example"] = PARAMETERS[parameter["name"]]
    at = f"{method} {path}"
    for media_type, content in call.get("requestBody", {}).get("content", {}).items():
        if media_type == "application/json" and at in BODIES:
            content["examples"] = {name: {"value": value} for name, value in BODIES[at].items()}
    for status, answer in answers.items():
        for media_type, content in answer.get("content", {}).items():
            if media_type == "application/x-npy":
                continue
            if status.startswith("2") and f"{at} {status}" in ANSWERS:
                content["example"] = ANSWERS[f"{at} {status}"]


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {MEDIA_TYPE: {"schema": schema, "example": PROBLEM}}
    return {"description": description, "content": content}
