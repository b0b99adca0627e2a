"""Serving below a prefix, such as `https://example.org/bitcell/`."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Prefix:
    """ASGI middleware that takes the prefix from paths, if the proxy has left it there."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or redirect the prefix without a slash, for links are relative."""
        if scope["type"] == "http":
            path: str = scope["path"]
            scope["root_path"] = self._root_path  # What `url_for` puts before its paths.
            if path == self._root_path:
                await RedirectResponse(f"{path}/", 308)(scope, receive, send)
                return
            if path.startswith(f"{self._root_path}/"):
                scope["path"] = path.removeprefix(self._root_path)
        await self.app(scope, receive, send)
