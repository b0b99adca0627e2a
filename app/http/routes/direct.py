"""Routes that cost next to nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction, signature
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send


class Direct(APIRoute):
    """A route that calls a handler as it is, where that asks for nothing but the request.

    An async handler of `request` and of strings of the path returns the response itself; what it
    raises, the application's handlers turn into an answer. What FastAPI does for others,
    dependencies and the stacks that close them, takes a fifth of a millisecond.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        asked = set(signature(self.endpoint).parameters)
        plain = "request" in asked and asked <= {"request", *self.param_convertors}
        if plain and iscoroutinefunction(self.endpoint):
            self.app = _plain(self.endpoint)


def _plain(
    handler: Callable[..., Awaitable[Response]],
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handler(request=Request(scope, receive, send), **scope["path_params"])
        await response(scope, receive, send)

    return app
