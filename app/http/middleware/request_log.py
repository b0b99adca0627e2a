"""Every request: an id, a line in the log, figures, and the headers that browsers keep to."""

from __future__ import annotations

import asyncio
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.problems import problem
from app.service.prometheus import Metrics

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
# Swagger's scripts come from a public host.
_DOCS = (
    b"default-src 'none'; connect-src 'self'; img-src 'self' data: https://fastapi.tiangolo.com; "
    b"script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    b"style-src 'unsafe-inline' https://cdn.jsdelivr.net; frame-ancestors 'none'"
)

log = structlog.stdlib.get_logger("bitcell")


class Observe:
    """ASGI middleware, the outermost: what it passes on is counted, timed and logged.

    An error that nobody else has turned into an answer becomes a 500 here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _ID.fullmatch(asked) else uuid.uuid4().hex
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0
        start = time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = _SECURITY | dict(message.get("headers", ()))
                headers[b"cache-control"] = b"no-store"
                headers[b"x-request-id"] = request_id.encode()
                if scope["path"] == "/docs":
                    headers[b"content-security-policy"] = _DOCS
                if scope["app"].state.stopping:
                    headers[b"connection"] = b"close"
                message["headers"] = list(headers.items())
            await send(message)

        metrics: Metrics = scope["app"].state.service.metrics
        metrics.in_flight.inc()
        try:
            await self.app(scope, receive, noted)
        except Exception:
            log.exception("request failed", method=scope["method"], path=scope["path"])
            if status:
                raise  # Half an answer is out: the connection is to break.
            refusal = problem(500, "the service failed; its log says why")
            await refusal(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - start
            metrics.in_flight.dec()
            # Once the answer is out, which goes when the event loop has its turn.
            asyncio.get_running_loop().call_soon(_note, metrics, scope, status, seconds)
            structlog.contextvars.unbind_contextvars("request_id")


def _note(metrics: Metrics, scope: Scope, status: int, seconds: float) -> None:
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
