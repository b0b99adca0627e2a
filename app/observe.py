"""Every request: an id, a line in the log, figures, and the headers that browsers keep to."""

from __future__ import annotations

import asyncio
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import problem
from app.metrics import Metrics

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
# Swagger's scripts come from a public host.
_DOCS = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: https://fastapi.tiangolo.com; "
    "script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net; frame-ancestors 'none'"
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
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
                if scope["path"] == "/docs":
                    headers["Content-Security-Policy"] = _DOCS
                if scope["app"].state.stopping:
                    headers["Connection"] = "close"
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
    metrics.request(scope["method"], route, status, seconds)
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
