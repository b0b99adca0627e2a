"""A page for those who open the address in a browser."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a browser may load for the page: nothing of any other host, and no script inside it."""

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_FILES = {file.name: file for file in files("app.http").joinpath("page").iterdir()}


@router.get("/")
def home() -> Response:
    """Neighbours, collections and benchmarks to look at."""
    return _page("index.html", {"Content-Security-Policy": POLICY})


@router.get("/page/{name}")
def part(name: str) -> Response:
    """A script or a style of the page."""
    if name not in _FILES:
        raise HTTPException(404)
    return _page(name, {})


def _page(name: str, headers: dict[str, str]) -> Response:
    kind = _TYPES["." + name.rpartition(".")[2]]
    return Response(_FILES[name].read_bytes(), headers=headers, media_type=kind)
