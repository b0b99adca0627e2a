"""Errors as RFC 9457 problem details: the one place where they become HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.datasets.catalog import UnknownDataset
from app.datasets.dataset import BadDataset
from app.errors import Conflict, TooLarge, TooMany, Unready
from app.http.npy import BadNpy
from hashing import BadEncoder, InvalidInput
from index import (
    AlreadyExists,
    BadSnapshot,
    Closed,
    DiskError,
    Full,
    InvalidItems,
    NotFound,
    Unreadable,
)

log = structlog.stdlib.get_logger("bitcell")

MEDIA_TYPE = "application/problem+json"
_SHOWN = 10
_LONGEST = 1000  # characters of a detail: what came in may be far longer


class UnsupportedMedia(Exception):
    """A body of a content type that this call does not take."""


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
    Unreadable: 500,
    Closed: 503,
    Unready: 503,
    Full: 507,
}


def problem(
    status: int, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """A problem-details response."""
    if len(detail) > _LONGEST:
        detail = detail[:_LONGEST] + "…"
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    return JSONResponse(
        body | {"detail": detail} | more, status, headers=headers, media_type=MEDIA_TYPE
    )


def add_handlers(app: FastAPI) -> None:
    """Turn every error of this project and of FastAPI into a problem."""
    for kind, status in _STATUS.items():
        app.add_exception_handler(kind, _known(status))
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)


def _known(status: int) -> Any:
    headers = {"Retry-After": "10"} if status in (429, 503) else None

    def handle(request: Request, error: Exception) -> JSONResponse:
        if status == 500:
            log.error("the data could not be read or written", exc_info=error)
        return problem(status, str(error), headers)

    return handle


def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    detail = str(error.detail)
    if error.status_code == 404 and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"there is nothing at {request.url.path}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "other methods")
        detail = f"{request.method} does nothing at {request.url.path}; {allowed} does"
    return problem(error.status_code, detail, dict(error.headers or {}))


def _validation(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    # A misspelt field first: that another is missing follows from it.
    found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    errors = [
        {
            "at": ".".join(map(str, e["loc"]))[:200] or "body",
            "expected": _expected(e),
            "got": _brief(e),
        }
        for e in found[:_SHOWN]
    ]
    first = errors[0]
    detail = f"{first['at']}: {first['expected']}; got {first['got']}"
    if len(found) > 1:
        detail += f" (and {len(found) - 1} more)"
    return problem(422, detail, errors=errors)


def _expected(error: Any) -> str:
    return "no field of this name" if error["type"] == "extra_forbidden" else str(error["msg"])


def _brief(error: Any) -> str:
    """What came, short enough to print: never the whole of a large body."""
    if error["type"] in ("missing", "json_invalid"):
        return "nothing" if error["type"] == "missing" else "a body that is not JSON"
    came = error["input"]
    if isinstance(came, list | dict):
        return f"{'a list' if isinstance(came, list) else 'an object'} of {len(came)}"
    text = "null" if came is None else repr(came[:100] if isinstance(came, str) else came)
    return text if len(text) <= 80 else text[:77] + "..."
