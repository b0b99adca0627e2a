"""Access control: API keys, allowed host names, and requests from pages of other origins."""

from __future__ import annotations

import ipaddress
import re
from asyncio import wrap_future
from functools import partial

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.problems import problem, unavailable
from app.service.keys import WRITE, Key
from app.service.service import Service
from app.service.settings import Settings
from app.service.state.keys import KeyStore
from index import Unavailable

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# Paths that never need a key: they show no data, or orchestrators ask for them.
OPEN_PATHS = ("/", "/docs", "/openapi.json", "/healthz", "/readyz")
PAGE_FILES = re.compile(r"/page/[a-z]+\.(css|js)")
# Calls that are POST because they have a body, although they only read.
READING_CALLS = re.compile(
    r"/v1/(gist|encoders/[^/]+/encode|collections/[^/]+/(query|items/count|items/list))"
)
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")

Refusal = tuple[int, str]
"""Status and detail of a problem."""


def is_loopback(host: str) -> bool:
    """Return whether a service that listens on `host` is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def writes(method: str, path: str) -> bool:
    """Return whether a call changes data, and so needs a write key."""
    # An item may have the id `count`: its path is that of a call.
    reads = method in SAFE_METHODS or (method == "POST" and READING_CALLS.fullmatch(path))
    return not reads


def is_open(path: str) -> bool:
    """Return whether a path never needs a key."""
    return path in OPEN_PATHS or PAGE_FILES.fullmatch(path) is not None


def keys_are_required(settings: Settings, keys: KeyStore) -> bool:
    """Return whether requests need a key.

    By default they do if the service listens on another address than loopback, or if a key was
    ever created in its data directory.
    """
    if settings.require_keys is not None:
        return settings.require_keys
    return not is_loopback(settings.host) or keys.required


class Access:
    """ASGI middleware that answers 400, 401 or 403 to requests that are not allowed."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._require_keys = settings.require_keys
        if settings.require_keys is None and not is_loopback(settings.host):
            self._require_keys = True
        configured = {host.strip().lower() for host in settings.allowed_hosts.split(",")} - {""}
        self._hosts = configured or {*LOCAL_HOSTS, settings.host.lower()}
        self._hosts_configured = bool(configured)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http":
            try:
                refusal = await self._refusal(scope)
            except Unavailable as error:
                await unavailable(error)(scope, receive, send)
                return
            if refusal is not None:
                status, detail = refusal
                headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
                await problem(status, detail, headers)(scope, receive, send)
                return
        scope["bitcell.is_allowed"] = partial(self._is_allowed, scope)
        await self.app(scope, receive, send)

    async def _is_allowed(self, scope: Scope) -> bool:
        """Return whether a request is still allowed. A long answer asks while it is sent."""
        return await self._refusal(scope) is None

    async def _refusal(self, scope: Scope) -> Refusal | None:
        service: Service = scope["app"].state.service
        if not service.keys.waits or is_open(scope["path"]):
            return self._check(scope, service.keys)
        return await wrap_future(service.key_pool.submit(self._check, scope, service.keys))

    def _check(self, scope: Scope, keys: KeyStore) -> Refusal | None:
        headers = Headers(scope=scope)
        need_key = self._require_keys
        if need_key is None:
            # An open path must be answered even if a server with the keys is not reached.
            looks = not (keys.waits and is_open(scope["path"]))
            need_key = keys.required if looks else keys.was_required
        return (
            self._check_host(headers, need_key)
            or _check_origin(scope, headers)
            or (_check_key(scope, headers, keys) if need_key else None)
        )

    def _check_host(self, headers: Headers, need_key: bool) -> Refusal | None:
        """Refuse other host names, which protects against DNS rebinding.

        If keys are needed and no hosts are configured, any host will do: a page that rebound its
        name to this machine has no key.
        """
        if "*" in self._hosts or (need_key and not self._hosts_configured):
            return None
        host = headers.get("host", "")
        match = _HOST.fullmatch(host)
        if match is not None and match["name"].strip("[]").lower() in self._hosts:
            return None
        return 400, f"host {host!r:.100} is not allowed (BITCELL_ALLOWED_HOSTS)"


def _check_origin(scope: Scope, headers: Headers) -> Refusal | None:
    """Refuse writes from pages of other origins."""
    origin, host = headers.get("origin"), headers.get("host", "")
    own = (f"http://{host}".lower(), f"https://{host}".lower())
    if scope["method"] in SAFE_METHODS or origin is None or origin.lower() in own:
        return None
    return 403, f"a page from {origin!r:.100} may not write to {host!r:.100}"


def _check_key(scope: Scope, headers: Headers, keys: KeyStore) -> Refusal | None:
    """Refuse requests without a key, and writes with a read key; note the key for the log."""
    if is_open(scope["path"]):
        return None
    key = _key(keys, headers.get("authorization", ""))
    if key is None:
        return 401, "expected `Authorization: Bearer KEY` with a key from `bitcell keys create`"
    scope["bitcell.key"] = key.id
    if key.scope != WRITE and writes(scope["method"], scope["path"]):
        return 403, f"the key {key.name!r} may only read"
    return None


def _key(keys: KeyStore, authorization: str) -> Key | None:
    scheme, _, secret = authorization.partition(" ")
    return keys.find(secret.strip()) if scheme.lower() == "bearer" else None
