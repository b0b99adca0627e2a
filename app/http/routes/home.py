"""The routes of the web page and of the API reference."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from app.http.openapi import rendered

router = APIRouter(include_in_schema=False)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy of the pages: files of this service only, no inline scripts."""

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_SWAGGER = files("fastapi_offline").joinpath("static")
_SOURCES = {file.name: file for file in files("app.http").joinpath("page").iterdir()} | {
    "swagger.js": _SWAGGER.joinpath("swagger-ui-bundle.js"),
    "swagger.css": _SWAGGER.joinpath("swagger-ui.css"),
}
# Read once: a request must not fail because no file can be opened.
_FILES = {name: file.read_bytes() for name, file in _SOURCES.items()}


@router.get("/")
async def home(request: Request) -> Response:
    """Return the page that shows neighbours, collections, benchmarks and explanations."""
    return _page(request, "index.html", {"Content-Security-Policy": POLICY})


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Return the page that shows the OpenAPI document, with Swagger UI."""
    return _page(request, "docs.html", {"Content-Security-Policy": POLICY})


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """Return the OpenAPI document."""
    plain, compressed = rendered(request.app)
    return _answer(request, plain, compressed, "application/json", {})


@router.get("/page/{name}")
async def part(request: Request, name: str) -> Response:
    """Return a script or a style sheet of a page."""
    if name not in _FILES:
        raise HTTPException(404)
    return _page(request, name, {})


def _page(request: Request, name: str, headers: dict[str, str]) -> Response:
    kind = _TYPES["." + name.rpartition(".")[2]]
    return _answer(request, _FILES[name], _compressed(name), kind, headers)


def _answer(
    request: Request, plain: bytes, compressed: bytes, kind: str, headers: dict[str, str]
) -> Response:
    # Answers are never cached, so they need no Vary.
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers = headers | {"Content-Encoding": "gzip"}
        return Response(compressed, headers=headers, media_type=kind)
    return Response(plain, headers=headers, media_type=kind)


@cache
def _compressed(name: str) -> bytes:
    """Compress a file once: the largest takes 20 ms, and nobody needs a key for it."""
    return gzip.compress(_FILES[name])
