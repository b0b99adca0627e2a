"""Who may ask: keys, and browsers that were led here by somebody else's page."""

from __future__ import annotations

import ipaddress
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.problems import problem
from app.service.keys import WRITE, Key, Keys
from app.service.settings import Settings

SAFE = ("GET", "HEAD", "OPTIONS")
# What holds no data, and what an orchestrator asks.
OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/readyz")
PAGE = re.compile(r"/page/[a-z]+\.(css|js)")
# POST because of their bodies: they change nothing.
READING = re.compile(r"/v1/(gist|encoders/[^/]+/encode|collections/[^/]+/query)")
LOCAL = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a service that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def writes(method: str, path: str) -> bool:
    """Whether a call changes anything."""
    return method not in SAFE and not READING.fullmatch(path)


def keys_are_required(settings: Settings, keys: Keys) -> bool:
    """As set; else where others reach the service, or where there is a key."""
    if settings.require_keys is not None:
        return settings.require_keys
    return not is_loopback(settings.host) or keys.any()


class Access:
    """ASGI middleware: passes on what is allowed, answers 400, 401 or 403 to the rest."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        named = {host.strip().lower() for host in settings.allowed_hosts.split(",")} - {""}
        self.hosts = named or {*LOCAL, settings.host.lower()}
        # With keys, a page that has rebound its name to us still has none.
        self.any_host_with_key = not named
        self.any_host = "*" in named
        self.loopback = is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and (refusal := self._check(scope)):
            status, detail = refusal
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            await problem(status, detail, headers)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        keys: Keys = scope["app"].state.service.keys
        required = self.settings.require_keys
        if required is None:
            required = not self.loopback or keys.any()
        host = headers.get("host", "")
        if not (self.any_host or (required and self.any_host_with_key)):
            named = _HOST.fullmatch(host)
            if named is None or named["name"].strip("[]").lower() not in self.hosts:
                return 400, f"{host!r:.100} is no host of this service (BITCELL_ALLOWED_HOSTS)"
        origin = headers.get("origin")
        if scope["method"] not in SAFE and origin is not None and not _same(origin, host):
            return 403, f"a page of {origin!r:.100} may not write to {host!r:.100}"
        if not required or scope["path"] in OPEN or PAGE.fullmatch(scope["path"]):
            return None
        key = _key(keys, headers.get("authorization", ""))
        if key is None:
            return 401, "expected `Authorization: Bearer KEY`, a key of `bitcell keys create`"
        scope["bitcell.key"] = key.id
        if key.scope != WRITE and writes(scope["method"], scope["path"]):
            return 403, f"the key {key.name!r} may only read"
        return None


_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def _same(origin: str, host: str) -> bool:
    return origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())


def _key(keys: Keys, authorization: str) -> Key | None:
    scheme, _, secret = authorization.partition(" ")
    return keys.find(secret.strip()) if scheme.lower() == "bearer" else None
