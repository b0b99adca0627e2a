"""The OpenAPI document: what FastAPI generates, plus the bodies that handlers parse themselves."""

from __future__ import annotations

import gzip
from copy import copy
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json
from starlette.routing import BaseRoute

from app.http import npy, schemas
from app.http.bodies import FILE
from app.http.examples import ANSWERS, BODIES, DISK_FULL, PARAMETERS, PROBLEM, UNAVAILABLE
from app.http.middleware.access import writes
from app.http.problems import MEDIA_TYPE

# FastAPI does not see these: handlers parse their bodies themselves.
_BODIES = (
    schemas.NewEncoder,
    schemas.ToEncode,
    schemas.Images,
    schemas.NewCollection,
    schemas.FindDuplicates,
    schemas.CollectionSettings,
    schemas.Reencode,
    schemas.Restore,
    schemas.NewItems,
    schemas.ItemPatch,
    schemas.ItemChanges,
    schemas.ToDelete,
    schemas.ToCount,
    schemas.ToList,
    schemas.Query,
    schemas.NewBenchmark,
    schemas.NewExplanation,
    schemas.NewRecommendation,
    schemas.ToMake,
    schemas.Problem,
)


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application. It is generated once."""
    if app.openapi_schema is None:
        generated = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=[_as_listed(route) for route in app.routes],
            servers=app.servers,
        )
        _, bodies = models_json_schema(
            [(model, "validation") for model in _BODIES],
            ref_template="#/components/schemas/{model}",
        )
        schemas_by_name = generated["components"]["schemas"] | bodies["$defs"]
        # FastAPI's own schemas of a 422; all errors here are problems.
        for name in ("HTTPValidationError", "ValidationError"):
            schemas_by_name.pop(name, None)
        generated["components"]["schemas"] = schemas_by_name
        for path, methods in generated["paths"].items():
            for method, call in methods.items():
                _complete(method.upper(), path, call)
        app.openapi_schema = generated
    return app.openapi_schema


def _as_listed(route: BaseRoute) -> BaseRoute:
    """Return a route with a short id and without HEAD, which answers as GET does."""
    if not isinstance(route, APIRoute):
        return route
    listed = copy(route)
    listed.methods = set(route.methods or ()) - {"HEAD"}
    listed.unique_id = route.name
    return listed


def rendered(app: FastAPI) -> tuple[bytes, bytes]:
    """Return the document as JSON, plain and compressed.

    It is rendered once, because that takes milliseconds and nobody needs a key to ask for it.
    """
    if not hasattr(app.state, "rendered_openapi"):
        plain = to_json(document(app))
        app.state.rendered_openapi = plain, gzip.compress(plain)
    found: tuple[bytes, bytes] = app.state.rendered_openapi
    return found


def _complete(method: str, path: str, call: dict[str, Any]) -> None:
    """Add the problems that a call may answer with, and examples."""
    answers = call["responses"]
    answers.pop("422", None)
    answers["4XX"] = _problem("A problem with the request", PROBLEM)
    away = _problem("The service, or its index, cannot answer now", UNAVAILABLE)
    retry = {"description": "Seconds after which to ask again.", "schema": {"type": "string"}}
    answers.setdefault("503", away | {"headers": {"Retry-After": retry}})
    if writes(method, path):
        answers["507"] = _problem("The disk is full", DISK_FULL)
    _add_examples(f"{method} {path}", call)


def _add_examples(name: str, call: dict[str, Any]) -> None:
    for parameter in call.get("parameters", []):
        if parameter["name"] in PARAMETERS:
            parameter["example"] = PARAMETERS[parameter["name"]]
    body = call.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None and name in BODIES:
        body["examples"] = {title: {"value": value} for title, value in BODIES[name].items()}
    for status, answer in call["responses"].items():
        for media_type, content in answer.get("content", {}).items():
            if media_type not in (npy.MEDIA_TYPE, FILE) and f"{name} {status}" in ANSWERS:
                content["example"] = ANSWERS[f"{name} {status}"]


def _problem(description: str, example: dict[str, Any]) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {MEDIA_TYPE: {"schema": schema, "example": example}}
    return {"description": description, "content": content}
