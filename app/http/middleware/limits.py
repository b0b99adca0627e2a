"""Limits on request bodies, on the time they take to arrive, and on concurrent requests."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.problems import problem
from app.service.settings import Settings

# Not counted as concurrent requests: they are cheap, and needed most when the service is busy.
UNCOUNTED_PATHS = ("/healthz", "/readyz", "/metrics")
_CLOSE = {"Connection": "close"}

Refusal = tuple[int, str, dict[str, str]]
"""Status, detail and headers of a problem."""


class Limits:
    """ASGI middleware that refuses requests beyond a limit before they cost anything.

    The answer is 413 if a body is too large, at once if its length is stated; 415 if it is
    compressed; 408 if it arrives too slowly; 503 if too many requests, or bytes of bodies, are in
    progress.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.max_body = int(settings.max_body)
        self.max_bodies = max(int(settings.max_bodies), self.max_body)
        self.body_seconds = settings.body_timeout
        self.max_concurrent = settings.max_concurrent
        self.running = 0
        self.bytes_held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        counted = _is_counted(scope["path"])
        if refusal := self._refusal(headers, counted):
            status, detail, more = refusal
            await problem(status, detail, more | _CLOSE)(scope, receive, send)
            return
        body = _Body(self, receive, send, expected=_has_body(headers))
        self.running += counted
        try:
            await self.app(scope, body.receive, body.send)
        finally:
            self.running -= counted
            self.bytes_held -= body.bytes_received

    def _refusal(self, headers: Headers, counted: bool) -> Refusal | None:
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.max_body:
            return 413, self.too_large(f"{int(length)} bytes"), {}
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            detail = f"expected a body without compression, got Content-Encoding {encoding!r:.50}"
            return 415, detail, {"Accept-Encoding": "identity"}
        if counted and self.running >= self.max_concurrent:
            detail = (
                f"{self.max_concurrent} requests are in progress, which is the limit "
                "(BITCELL_MAX_CONCURRENT)"
            )
            return 503, detail, {"Retry-After": "1"}
        return None

    def too_large(self, size: str) -> str:
        """Return the detail of a 413."""
        return f"expected a body of at most {self.max_body} bytes (BITCELL_MAX_BODY), got {size}"


class _Body:
    """The body of one request: it is counted and timed while it arrives."""

    def __init__(self, limits: Limits, receive: Receive, send: Send, *, expected: bool) -> None:
        self.bytes_received = 0
        self._limits = limits
        self._receive = receive
        self._send = send
        self._arriving = expected
        self._deadline: float | None = None

    async def receive(self) -> Message:
        """Return the next part; raise HTTPException if the body is too large or too slow."""
        if not self._arriving:
            return await self._receive()
        limits = self._limits
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + limits.body_seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                part = await self._receive()
        except TimeoutError:
            detail = (
                f"expected the body to arrive within {limits.body_seconds:g} s "
                "(BITCELL_BODY_TIMEOUT)"
            )
            raise HTTPException(408, detail, _CLOSE) from None
        size = len(part.get("body", b""))
        self.bytes_received += size
        limits.bytes_held += size
        self._arriving = part.get("more_body", False)
        if self.bytes_received > limits.max_body:
            raise HTTPException(413, limits.too_large("more"), _CLOSE)
        if limits.bytes_held > limits.max_bodies:
            detail = f"the bodies in progress exceed {limits.max_bodies} bytes (BITCELL_MAX_BODIES)"
            raise HTTPException(503, detail, _CLOSE | {"Retry-After": "1"})
        return part

    async def send(self, message: Message) -> None:
        """Pass the answer on; close the connection after it if the body was not read fully."""
        if message["type"] == "http.response.start" and self._arriving:
            MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _is_counted(path: str) -> bool:
    is_event_stream = path.startswith("/v1/jobs/") and path.endswith("/events")
    return path not in UNCOUNTED_PATHS and not is_event_stream
