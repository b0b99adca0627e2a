"""What both clients share: settings, requests, retries, and reading answers."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx2

from bitcell_client._version import __version__
from bitcell_client.call import Call, Request
from bitcell_client.calls import Calls
from bitcell_client.errors import BitcellError, Unreachable, name_of, service_error
from bitcell_client.json_body import as_json

T = TypeVar("T")
USER_AGENT = f"bitcell-client/{__version__}"
_RETRIED_STATUSES = (429, 502, 503, 504)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0


class Connection(Calls, ABC):
    """Base class of both clients."""

    def __init__(
        self,
        url: str = "http://localhost:8000",
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 4,
        **more: Any,
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"expected a URL with http:// or https://, got {url!r:.100}")
        self.retries = retries
        headers = {"User-Agent": USER_AGENT}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._open(base_url=url, headers=headers, timeout=timeout, **more)

    @abstractmethod
    def _open(self, **settings: Any) -> None:
        """Create the httpx2 client."""

    def _pause(
        self, call: Call[Any, Any], outcome: httpx2.Response | httpx2.RequestError, attempt: int
    ) -> float | None:
        """Return the seconds to wait before the call is sent again, or None not to send it."""
        if attempt >= self.retries:
            return None
        if isinstance(outcome, httpx2.Response):
            if not call.safe or outcome.status_code not in _RETRIED_STATUSES:
                return None
            retry_after = outcome.headers.get("Retry-After", "")
            at_least = float(retry_after) if retry_after.isdecimal() else 0.0
        else:
            if not _may_send_again(call, outcome):
                return None
            at_least = 0.0
        if at_least > _LONGEST_PAUSE:
            return None
        # Jitter, so that clients do not retry in step.
        backoff: float = _FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1)  # noqa: S311
        return max(at_least, min(backoff, _LONGEST_PAUSE))


def _may_send_again(call: Call[Any, Any], error: httpx2.RequestError) -> bool:
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return True  # Nothing was sent.
    return call.safe and isinstance(error, httpx2.NetworkError | httpx2.ProtocolError)


def build_request(
    http: httpx2.Client | httpx2.AsyncClient, call: Call[Any, Any], request: Request[Any]
) -> httpx2.Request:
    """Return the request for httpx2."""
    content, headers = request.content, dict(request.headers)
    if request.json is not None:
        content, headers["Content-Type"] = as_json(request.json), "application/json"
    path = fill_path(call.path, request.path)
    return http.build_request(
        call.method, path, params=request.query or None, content=content, headers=headers
    )


def fill_path(template: str, values: Mapping[str, str]) -> str:
    """Return a path with its placeholders filled; raise ValueError for "", "." and "..".

    Those values would name another path: `DELETE …/c/items/..` is `DELETE …/c`.
    """
    for name, value in values.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} must be a string, got {value!r:.50}")
        if value in ("", ".", ".."):
            raise ValueError(f"{value!r} cannot stand for {name} in {template}")
    return template.format_map({name: quote(value, safe="") for name, value in values.items()})


def read_answer(request: Request[T], outcome: httpx2.Response | httpx2.RequestError) -> T:
    """Return the answer to a request, or raise the error that it stands for."""
    if not isinstance(outcome, httpx2.Response):
        raise unreachable(outcome) from outcome
    if outcome.status_code >= 400:
        error = service_error(outcome)
        if request.row:
            error.shift_row(request.row)
        raise error
    if outcome.status_code >= 300:
        location = outcome.headers.get("Location")
        call = name_of(outcome.request)
        raise BitcellError(f"expected an answer, got a redirect to {location} ({call})")
    try:
        return request.read(outcome)
    except ValueError as error:
        raise unexpected_answer(outcome.request, outcome.content, error) from error


def unexpected_answer(request: httpx2.Request, content: bytes, reason: ValueError) -> BitcellError:
    """Return the error for an answer that is not what Bitcell would send."""
    return BitcellError(
        f"expected an answer of Bitcell, got {content[:100]!r}: {reason} ({name_of(request)})"
    )


def unreachable(error: httpx2.RequestError) -> Unreachable:
    """Return the error for a request that got no answer."""
    return Unreachable(f"{type(error).__name__}: {error} ({name_of(error.request)})")
