"""Request ids, the log line and metrics of every request, and security headers."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.problems import problem
from app.service.prometheus import Metrics

CLIENT_CLOSED = 499
"""The status that is logged and counted if the client closed the connection before the answer."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}

log = structlog.stdlib.get_logger("bitcell")


class Observe:
    """ASGI middleware, the outermost: it counts, times and logs every request.

    It answers 500 if an exception reaches it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0
        start = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, scope, request_id)
            await send(message)

        metrics: Metrics = scope["app"].state.service.metrics
        metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            # Ordinary: nobody is there to be answered. A broken request has been answered already.
            status = status or scope.get("bitcell.status", CLIENT_CLOSED)
        except Exception:
            log.exception("request failed", method=scope["method"], path=scope["path"])
            if status:
                raise  # Part of the answer has been sent: break the connection.
            refusal = problem(500, "the service failed; its log says why")
            await refusal(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - start
            metrics.in_flight.dec()
            # Later, so that the event loop sends the answer first.
            asyncio.get_running_loop().call_soon(_record, metrics, scope, status, seconds)
            structlog.contextvars.unbind_contextvars("request_id")


def _request_id(scope: Scope) -> str:
    requested = Headers(scope=scope).get("x-request-id", "")
    return requested if _REQUEST_ID.fullmatch(requested) else uuid.uuid4().hex


def _add_headers(message: MutableMapping[str, Any], scope: Scope, request_id: str) -> None:
    headers = _SECURITY | dict(message.get("headers", ()))
    headers[b"cache-control"] = b"no-store"
    headers[b"x-request-id"] = request_id.encode()
    if scope["app"].state.stopping:
        headers[b"connection"] = b"close"
    message["headers"] = list(headers.items())


def _record(metrics: Metrics, scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "none")
    metrics.count_request(scope["method"], route, status, seconds)
    client = scope.get("client")
    log.info(
        "request",
        method=scope["method"],
        path=scope["path"],
        status=status,
        ms=round(1000 * seconds, 2),
        client=client[0] if client else None,
        **({"key": scope["bitcell.key"]} if "bitcell.key" in scope else {}),
    )
