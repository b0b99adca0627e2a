"""A page for those who open the address in a browser."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)


@router.get("/")
def home() -> HTMLResponse:
    """What this is and what to type first."""
    return HTMLResponse(files("app").joinpath("home.html").read_text("utf-8"))
