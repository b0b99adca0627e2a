"""Limits on bodies, on the time they take to arrive, and on concurrent requests and streams."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.bodies import JSON, json_memory, media_type
from app.http.middleware.access import is_open
from app.http.problems import problem
from app.service.settings import Settings

STREAMED = re.compile(r"/v1/(snapshots|datasets)/[^/]+")
"""Paths whose body is written to the disk as it arrives: it is limited there."""
STREAMED_PART = 1 << 20
"""So much of such a body must arrive within the time that another one has in all."""
SMALL_ANSWER = 1 << 16
"""Never refused for lack of memory: the answer to a write, which has been done, is smaller."""
SMALL_BODY = 1 << 14
"""Up to this size only the bytes of JSON count, so that a query of one descriptor is not slowed.
Such a body is never refused for lack of memory, so that queries go on during large uploads."""
_CLOSE = {"Connection": "close"}
_RETRY = _CLOSE | {"Retry-After": "1"}

Refusal = tuple[int, str, dict[str, str]]
"""Status, detail and headers of a problem."""


@dataclass
class _Places:
    """The places for requests of one kind, and how many of them are taken."""

    limit: int
    full: str
    taken: int = 0


class Limits:
    """ASGI middleware that refuses requests beyond a limit before they cost anything.

    The answer is 413 if a body is too large, at once if its length is stated; 415 if it is
    compressed; 408 if it arrives too slowly; 503 if too many requests or streams of events, or too
    many bytes of bodies and unread answers, are in progress.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.max_body = int(settings.max_body)
        self.max_bodies = max(int(settings.max_bodies), self.max_body)
        self.body_seconds = settings.body_timeout
        self.bytes_held = 0
        n, streams = settings.max_concurrent, settings.max_streams
        self._requests = _Places(
            n, f"{n} requests are in progress, which is the limit (BITCELL_MAX_CONCURRENT)"
        )
        self._streams = _Places(
            streams,
            f"{streams} streams of events are open, which is the limit (BITCELL_MAX_STREAMS)",
        )
        # Cheap, and needed most when the service is busy; each connection has one at a time.
        self._uncounted = _Places(sys.maxsize, "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        places = self._places(scope["path"])
        is_streamed = STREAMED.fullmatch(scope["path"]) is not None
        if refusal := self._refusal(headers, places, is_streamed=is_streamed):
            status, detail, more = refusal
            await problem(status, detail, more | _CLOSE)(scope, receive, send)
            return
        counts_answer = places is not self._uncounted
        exchange = _Exchange(
            self,
            headers,
            scope,
            receive,
            send,
            counts_answer=counts_answer,
            is_streamed=is_streamed,
        )
        places.taken += 1
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException:
            exchange.free()
            raise
        finally:
            places.taken -= 1
        await exchange.wait_until_read()

    def _places(self, path: str) -> _Places:
        if is_open(path) or path == "/metrics":
            return self._uncounted
        is_stream = path.startswith("/v1/jobs/") and path.endswith("/events")
        return self._streams if is_stream else self._requests

    def _refusal(self, headers: Headers, places: _Places, *, is_streamed: bool) -> Refusal | None:
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.max_body and not is_streamed:
            return 413, self.too_large(f"{int(length)} bytes"), {}
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            detail = f"expected a body without compression, got Content-Encoding {encoding!r:.50}"
            return 415, detail, {"Accept-Encoding": "identity"}
        if places.taken >= places.limit:
            return 503, places.full, _RETRY
        return None

    def too_large(self, size: str) -> str:
        """Return the detail of a 413."""
        return f"expected a body of at most {self.max_body} bytes (BITCELL_MAX_BODY), got {size}"

    def too_much_json(self) -> str:
        """Return the detail of a 413."""
        return (
            f"expected JSON that takes at most {self.max_bodies} bytes of memory "
            "(BITCELL_MAX_BODIES), got more: send fewer values at a time, or send npy, which takes "
            "no more memory than its size"
        )

    def no_memory(self) -> str:
        """Return the detail of a 503."""
        return (
            f"the bodies in progress and the answers that clients have not read exceed "
            f"{self.max_bodies} bytes (BITCELL_MAX_BODIES)"
        )


class _Exchange:
    """The bodies of one request and its answer, which are counted while they are in memory."""

    def __init__(
        self,
        limits: Limits,
        headers: Headers,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        counts_answer: bool,
        is_streamed: bool,
    ) -> None:
        self._counts_answer = counts_answer
        self._is_streamed = is_streamed
        self._limits = limits
        self._scope = scope
        self._receive = receive
        self._send = send
        self._arriving = _has_body(headers)
        self._is_json = media_type(headers) == JSON and not is_streamed
        self._deadline: float | None = None
        self._bytes_received = 0
        self._held = 0
        self._start: Message | None = None
        self._refused = False

    async def receive(self) -> Message:
        """Return the next part; raise HTTPException if the body is too large or too slow."""
        if not self._arriving:
            return await self._receive()
        limits, message = self._limits, await self._next_part()
        part = message.get("body", b"")
        counts_values = self._is_json and self._bytes_received > SMALL_BODY
        held = 0 if self._is_streamed else self._held
        self._hold(held + (json_memory(part) if counts_values else len(part)))
        if self._held > limits.max_bodies:
            # Do not keep the rest, but read it, so that clients that send first see the answer.
            self._hold(self._bytes_received)
            while self._arriving:
                await self._next_part()
            raise HTTPException(413, limits.too_much_json())
        if self._held > SMALL_BODY and limits.bytes_held > limits.max_bodies:
            raise HTTPException(503, limits.no_memory(), _RETRY)
        return message

    async def _next_part(self) -> Message:
        limits = self._limits
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + limits.body_seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            detail = (
                f"expected the body to arrive within {limits.body_seconds:g} s "
                "(BITCELL_BODY_TIMEOUT)"
            )
            raise HTTPException(408, detail, _CLOSE) from None
        self._bytes_received += len(message.get("body", b""))
        self._arriving = message.get("more_body", False)
        if self._is_streamed:
            if self._bytes_received >= STREAMED_PART:
                self._bytes_received, self._deadline = 0, None
        elif self._bytes_received > limits.max_body:
            raise HTTPException(413, limits.too_large("more"), _CLOSE)
        return message

    async def send(self, message: Message) -> None:
        """Pass the answer on; close the connection after it if the body was not read fully.

        The head waits for the first part of the body, so that 503 can take the place of an answer
        for which there is no memory.
        """
        if message["type"] == "http.response.start":
            if self._arriving:
                MutableHeaders(scope=message)["Connection"] = "close"
            self._start = message
            return
        if self._start is not None:
            start, self._start = self._start, None
            self._refused = self._is_too_much(len(message.get("body", b"")))
            if self._refused:
                refusal = problem(503, self._limits.no_memory(), _RETRY)
                await refusal(self._scope, self._receive, self._send)
                return
            await self._send(start)
        if not self._refused:
            await self._send(message)

    def _is_too_much(self, size: int) -> bool:
        """Count an answer in place of the request; return whether there is no memory for it."""
        if not self._counts_answer:
            return False
        self._hold(size)
        others = self._limits.bytes_held - size
        if size <= SMALL_ANSWER or others == 0 or others + size <= self._limits.max_bodies:
            return False
        self._hold(0)
        return True

    async def wait_until_read(self) -> None:
        """Wait until the client has read the answer, and stop counting it."""
        try:
            # Only the server of app/http/server.py can tell.
            if self._held and "bitcell.until_read" in self._scope:
                await self._scope["bitcell.until_read"]()
        finally:
            self.free()

    def free(self) -> None:
        """Stop counting the bodies."""
        self._hold(0)

    def _hold(self, size: int) -> None:
        self._limits.bytes_held += size - self._held
        self._held = size


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
