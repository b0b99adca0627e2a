"""Refusing URL parameters that a call does not take."""

from __future__ import annotations

from collections import Counter

from fastapi.routing import APIRoute
from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.schemas import ELSEWHERE
from hashing import InvalidInput
from hashing.validation import suggestion

_MOST_NAMED = 10


class KnownParameters:
    """The ASGI application of one route, which runs only if all URL parameters are known to it.

    Otherwise a misspelt parameter would be ignored, and the call would not do what the client
    asked for.
    """

    def __init__(self, app: ASGIApp, known: list[str]) -> None:
        self.app = app
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; raise InvalidInput for a parameter that is unknown or repeated."""
        if scope.get("query_string"):
            self._check([name for name, _ in QueryParams(scope["query_string"]).multi_items()])
        await self.app(scope, receive, send)

    def _check(self, given: list[str]) -> None:
        if unknown := sorted(set(given) - set(self._known)):
            hint = suggestion(unknown[0], self._known, ELSEWHERE)
            known = f"there are {', '.join(self._known)}" if self._known else "this call takes none"
            raise InvalidInput(
                f"unknown URL parameters: {', '.join(unknown[:_MOST_NAMED])}{hint}; {known}"
            )
        if twice := [name for name, n in Counter(given).items() if n > 1]:
            raise InvalidInput(f"the URL parameter {twice[0]} is given more than once")


def known_parameters(route: APIRoute) -> list[str]:
    """Return the URL parameters of a route: of its function, and of its OpenAPI description."""
    described = (route.openapi_extra or {}).get("parameters", [])
    return [
        *(field.alias for field in route.dependant.query_params),
        *(one["name"] for one in described if one["in"] == "query"),
    ]
