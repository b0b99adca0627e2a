"""The limit on request bodies, kept while they arrive."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import problem


class BodyLimit:
    """ASGI middleware: a body over `limit` bytes is refused, at once if its length is stated."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 413."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        message = f"a body has at most {self.limit} bytes here (BITCELL_MAX_BODY)"
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if stated.isdigit() and int(stated) > self.limit:
            refusal = problem(413, f"{message}, got {int(stated)}", {"Connection": "close"})
            await refusal(scope, receive, send)
            return
        got = 0

        async def counted() -> Message:
            nonlocal got
            part = await receive()
            got += len(part.get("body", b""))
            if got > self.limit:
                raise HTTPException(413, f"{message}, got more", {"Connection": "close"})
            return part

        await self.app(scope, counted, send)
