"""Limits on what is asked at a time: bodies, how long they take, how many requests."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.problems import problem
from app.service.settings import Settings

# Cheap, and asked for just when there is much to do.
UNCOUNTED = ("/healthz", "/readyz", "/metrics")
_CLOSE = {"Connection": "close"}


class Limits:
    """ASGI middleware: a request beyond a limit is refused before it costs anything.

    413 for a body that is too large, at once if its length is stated; 415 for one that is
    compressed; 408 for one that comes too slowly; 503 while too many requests, or too many bytes
    of them, are being worked on.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.limit = int(settings.max_body)
        self.limit_in_all = max(int(settings.max_bodies), self.limit)
        self.timeout = settings.body_timeout
        self.most = settings.max_concurrent
        self.running = 0
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if refusal := self._refusal(scope, headers):
            status, detail, more = refusal
            await problem(status, detail, more | _CLOSE)(scope, receive, send)
            return
        body = _Body(self, receive, send, there=_has_body(headers))
        counted = not _uncounted(scope["path"])
        self.running += counted
        try:
            await self.app(scope, body.receive, body.send)
        finally:
            self.running -= counted
            self.held -= body.got

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str, dict[str, str]] | None:
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.limit:
            return 413, f"{self.too_large}, got {int(length)}", {}
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            detail = f"expected a body that is not compressed, got {encoding!r:.50}"
            return 415, detail, {"Accept-Encoding": "identity"}
        if self.running >= self.most and not _uncounted(scope["path"]):
            detail = f"{self.most} requests are being worked on (BITCELL_MAX_CONCURRENT)"
            return 503, detail, {"Retry-After": "1"}
        return None

    @property
    def too_large(self) -> str:
        """The limit on one body, in words."""
        return f"a body has at most {self.limit} bytes here (BITCELL_MAX_BODY)"


class _Body:
    """The body of one request, counted and timed as it arrives."""

    def __init__(self, limits: Limits, receive: Receive, send: Send, *, there: bool) -> None:
        self.limits = limits
        self._receive = receive
        self._send = send
        self.got = 0
        self.arriving = there
        self.deadline: float | None = None

    async def receive(self) -> Message:
        """The next part; HTTPException where it is too much or too late."""
        if not self.arriving:
            return await self._receive()
        if self.deadline is None:
            self.deadline = asyncio.get_running_loop().time() + self.limits.timeout
        try:
            async with asyncio.timeout_at(self.deadline):
                part = await self._receive()
        except TimeoutError:
            detail = f"a body arrives within {self.limits.timeout:g} s here (BITCELL_BODY_TIMEOUT)"
            raise HTTPException(408, detail, _CLOSE) from None
        size = len(part.get("body", b""))
        self.got += size
        self.limits.held += size
        self.arriving = part.get("more_body", False)
        if self.got > self.limits.limit:
            raise HTTPException(413, f"{self.limits.too_large}, got more", _CLOSE)
        if self.limits.held > self.limits.limit_in_all:
            detail = "the bodies being worked on fill the memory set aside (BITCELL_MAX_BODIES)"
            raise HTTPException(503, detail, _CLOSE | {"Retry-After": "1"})
        return part

    async def send(self, message: Message) -> None:
        """Pass the answer on; the connection ends with it if the body has not been read."""
        if message["type"] == "http.response.start" and self.arriving:
            MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _uncounted(path: str) -> bool:
    return path in UNCOUNTED or (path.startswith("/v1/jobs/") and path.endswith("/events"))
