"""Problem details (RFC 9457): the one place where errors become HTTP answers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.datasets.catalog import UnknownDataset
from app.datasets.dataset import BadDataset
from app.errors import Conflict, TooLarge, TooMany, Unready, is_full, shortage
from app.http.npy import BadNpy
from app.http.schemas.fields import ELSEWHERE
from hashing import BadEncoder, InvalidInput
from hashing.validation import suggestion
from index import (
    AlreadyExists,
    BadSnapshot,
    Closed,
    DiskError,
    Full,
    InvalidItems,
    NotFound,
    ServerError,
    Unavailable,
    Unreadable,
)

log = structlog.stdlib.get_logger("bitcell")

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 10
MAX_DETAIL = 1000
"""Characters of a detail, since values from the request may be far longer."""
RETRY_SECONDS = "10"


class UnsupportedMedia(Exception):
    """The call does not take a body of this content type."""


_STATUS: dict[type[Exception], int] = {
    BadNpy: 400,
    BadEncoder: 400,
    NotFound: 404,
    UnknownDataset: 404,
    AlreadyExists: 409,
    Conflict: 409,
    TooLarge: 413,
    UnsupportedMedia: 415,
    InvalidInput: 422,
    InvalidItems: 422,
    BadDataset: 422,
    BadSnapshot: 422,
    TooMany: 429,
    DiskError: 500,
    ServerError: 500,
    Unreadable: 500,
    Closed: 503,
    Unavailable: 503,
    Unready: 503,
    Full: 507,
}


def problem(
    status: int, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """Return a problem document, with `more` as further members."""
    if len(detail) > MAX_DETAIL:
        detail = detail[:MAX_DETAIL] + "…"
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    return JSONResponse(
        body | {"detail": detail} | more, status, headers=headers, media_type=MEDIA_TYPE
    )


def add_handlers(app: FastAPI) -> None:
    """Turn the errors of this project, of FastAPI and of Starlette into problems."""
    for kind, status in _STATUS.items():
        app.add_exception_handler(kind, _handler(status))
    for kind in (OSError, MemoryError, RuntimeError):
        app.add_exception_handler(kind, _system)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)


def _handler(status: int) -> Any:
    def handle(request: Request, error: Exception) -> JSONResponse:
        headers = _retry(error) if status in (429, 503) else None
        if isinstance(error, Unavailable):
            log.warning("a server that is needed could not be asked", error=str(error))
        if status == 500:
            log.error("data could not be read or written", exc_info=error)
        return problem(status, str(error), headers, **_row(getattr(error, "row", None)))

    return handle


def unavailable(error: Unavailable) -> JSONResponse:
    """Return the answer to a request that needs a server which does not answer."""
    return problem(503, str(error), _retry(error))


def _retry(error: Exception) -> dict[str, str]:
    seconds = getattr(error, "retry_after", None)
    return {"Retry-After": RETRY_SECONDS if seconds is None else str(max(1, round(seconds)))}


async def _system(request: Request, error: Exception) -> JSONResponse:
    """Answer 507 if the disk is full, 503 if something else is short; raise any other error.

    It is async because there may be no thread to run it in.
    """
    if is_full(error):
        return problem(507, f"the disk is full ({error}); nothing of the request was kept")
    if (what := shortage(error)) is None:
        raise error
    log.warning("request refused", short=what, error=str(error))
    headers = {"Retry-After": RETRY_SECONDS}
    return problem(503, f"the service is short of {what}: try again later", headers)


def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    detail, headers = str(error.detail), dict(error.headers or {})
    if error.status_code == 404 and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"there is no path {request.url.path}"
    if error.status_code == 405:
        headers["Allow"] = _allowed_methods(request)
        detail = f"Method not allowed; use {headers['Allow']}."
    return problem(error.status_code, detail, headers)


def _allowed_methods(request: Request) -> str:
    """Return the methods of a path; Starlette names only those of its first route."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is Match.PARTIAL:
            methods |= route.methods
    return ", ".join(sorted(methods))


def _validation(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    # Unknown fields come first: a misspelt field often means that another one is missing.
    found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    errors = [
        {
            "at": ".".join(map(str, e["loc"]))[:200] or "body",
            "expected": _expected(e),
            "got": _brief(e),
        }
        for e in found[:MAX_ERRORS]
    ]
    first = errors[0]
    detail = f"{first['at']}: {first['expected']}; got {first['got']}"
    if found[0]["type"] == "value_error" and not found[0]["loc"]:
        detail = first["expected"]  # What several fields say together is not in one of them.
    if len(found) > 1:
        detail += f" (and {len(found) - 1} more)"
    # As in `items.3.label`: all lists at this place are rows, of items or of descriptors.
    row = next((step for step in found[0]["loc"][1:2] if isinstance(step, int)), None)
    return problem(422, detail, errors=errors, **_row(row))


def _row(row: int | None) -> dict[str, Any]:
    return {} if row is None else {"row": row}


def _expected(error: Any) -> str:
    if error["type"] == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if error["type"] != "extra_forbidden":
        several = error["loc"][-1:] == ("label",) and isinstance(error.get("input"), list)
        hint = ": put several labels of an item as a list into its payload" * several
        return f"{error['msg']}{hint}"
    fields = error.get("fields", [])
    hint = suggestion(str(error["loc"][-1]), fields, ELSEWHERE)
    return f"no field of this name{hint}" + (f"; there are {', '.join(fields)}" if fields else "")


def _brief(error: Any) -> str:
    """Describe the input of an error in at most 80 characters: it may be a large body."""
    if error["type"] == "missing":
        return "nothing"
    if error["type"] == "json_invalid":
        return "a body that is not JSON"
    value = error["input"]
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    text = repr(value[:100] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."
