"""The routes of the web page."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy of the page: files of this service only, no inline scripts."""

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
# Read once: a request must not fail because no file can be opened.
_FILES = {file.name: file.read_bytes() for file in files("app.http").joinpath("page").iterdir()}


@router.get("/")
async def home() -> Response:
    """Return the page that shows neighbours, collections and benchmarks."""
    return _page("index.html", {"Content-Security-Policy": POLICY})


@router.get("/page/{name}")
async def part(name: str) -> Response:
    """Return a script or a style sheet of the page."""
    if name not in _FILES:
        raise HTTPException(404)
    return _page(name, {})


def _page(name: str, headers: dict[str, str]) -> Response:
    kind = _TYPES["." + name.rpartition(".")[2]]
    return Response(_FILES[name], headers=headers, media_type=kind)
