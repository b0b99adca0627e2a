"""The two clients: they send calls, again where that is safe, and follow jobs."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx2
import numpy as np
from numpy.typing import ArrayLike

from app.client.calls import Call, Calls, Sent
from app.client.errors import BitcellError, JobFailed, Unreachable, error_of
from app.http import schemas

T = TypeVar("T")
BATCH = 10_000
"""Items that `load` sends in one request, or as many as fit into `_BODY`."""
_BODY = 32 << 20
# What a number takes as text.
_DIGITS = 25
_AGAIN = (429, 502, 503, 504)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
EVENTS = "/v1/jobs/{job}/events"
_ENDED = ("done", "failed", "cancelled")


class _Base(Calls):
    """What both clients share.

    Parameters
    ----------
    url : str
        Where the service is, without `/v1`.
    key : str, optional
        An API key, as `bitcell keys create` shows it.
    timeout : float
        Seconds to wait for a connection, or for the next bytes of an answer.
    retries : int
        How often a call is sent again: after 429, 502, 503 and 504, and when a connection breaks,
        but not when an answer takes longer than `timeout`, since the service is still at it.
        Only calls that read, and `upsert`, which has the ids (one that is sent again puts back
        what others took out in between); any other only if no connection was made. Pauses
        double from 0.1 s; `Retry-After` is kept to up to 30 s.
    **more
        For httpx2's client: `transport`, `verify`, ….
    """

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
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._open(base_url=url, headers=headers, timeout=timeout, **more)

    def _open(self, **settings: Any) -> None:
        raise NotImplementedError

    def _pause(
        self, call: Call[Any, Any], came: httpx2.Response | httpx2.RequestError, attempt: int
    ) -> float | None:
        """Seconds until the call is sent again; None where it is not to be."""
        if attempt >= self.retries:
            return None
        asked = 0.0
        if isinstance(came, httpx2.Response):
            if not call.safe or came.status_code not in _AGAIN:
                return None
            after = came.headers.get("Retry-After", "")
            asked = float(after) if after.isdigit() else 0.0
        elif not isinstance(came, httpx2.ConnectError | httpx2.ConnectTimeout) and (
            not call.safe or not isinstance(came, httpx2.NetworkError | httpx2.ProtocolError)
        ):
            return None
        # Apart from each other, lest all who were refused together come back together.
        own = _FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1)  # noqa: S311
        return max(asked, min(own, _LONGEST_PAUSE)) if asked <= _LONGEST_PAUSE else None


class Client(_Base):
    """A client of a Bitcell service; close it, or use it in a `with`.

    `Client(url, key)`: where the service is, without `/v1`, and an API key, if it asks for one.
    Calls that read, and `upsert`, are sent again after 429, 502, 503 and 504 and when a connection
    fails, `retries` times at most; any other only if no connection was made.
    """

    _http: httpx2.Client

    def _open(self, **settings: Any) -> None:
        self._http = httpx2.Client(**settings)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, call: Call[Any, Any], sent: Sent[T]) -> T:
        attempt = 0
        while True:
            came: httpx2.Response | httpx2.RequestError
            try:
                came = self._http.send(_request(self._http, call, sent))
            except httpx2.RequestError as error:
                came = error
            if (pause := self._pause(call, came, attempt)) is None:
                return _read(sent, came)
            time.sleep(pause)
            attempt += 1

    def load(
        self,
        name: str,
        ids: Sequence[str],
        descriptors: ArrayLike,
        labels: ArrayLike | None = None,
        payloads: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        batch: int = BATCH,
    ) -> int:
        """Upsert any number of items, so many a request; how many the collection then holds."""
        parts = _parts(ids, descriptors, labels, payloads, batch)
        held = self.collection(name).items
        for part in parts:
            held = self.upsert(name, *part).items
        return held

    def events(self, job: str | schemas.Accepted) -> Iterator[schemas.JobOut]:
        """The job now and at every change, until it has ended or the service stops."""
        try:
            with self._http.stream("GET", _events_path(job)) as response:
                if response.status_code >= 400:
                    response.read()
                    raise error_of(response)
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        yield schemas.JobOut.model_validate_json(line[6:])
        except httpx2.RequestError as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    def wait(self, job: str | schemas.Accepted, timeout: float | None = None) -> schemas.JobOut:
        """The job when it is done; `JobFailed` where it is not, TimeoutError after so long."""
        for pause in _pauses(timeout):
            shown = self.job(_id(job))
            if shown.state in _ENDED:
                return _done(shown)
            time.sleep(pause)
        raise TimeoutError(f"job {shown.id} is still {shown.state}")


class AsyncClient(_Base):
    """A client of a Bitcell service, as `Client`, all of whose calls are awaited."""

    _http: httpx2.AsyncClient

    def _open(self, **settings: Any) -> None:
        self._http = httpx2.AsyncClient(**settings)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _do(self, call: Call[Any, Any], sent: Sent[T]) -> T:
        attempt = 0
        while True:
            came: httpx2.Response | httpx2.RequestError
            try:
                came = await self._http.send(_request(self._http, call, sent))
            except httpx2.RequestError as error:
                came = error
            if (pause := self._pause(call, came, attempt)) is None:
                return _read(sent, came)
            await asyncio.sleep(pause)
            attempt += 1

    async def load(
        self,
        name: str,
        ids: Sequence[str],
        descriptors: ArrayLike,
        labels: ArrayLike | None = None,
        payloads: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        batch: int = BATCH,
    ) -> int:
        """Upsert any number of items, so many a request; how many the collection then holds."""
        parts = _parts(ids, descriptors, labels, payloads, batch)
        held = (await self.collection(name)).items
        for part in parts:
            held = (await self.upsert(name, *part)).items
        return held

    async def events(self, job: str | schemas.Accepted) -> AsyncIterator[schemas.JobOut]:
        """The job now and at every change, until it has ended or the service stops."""
        try:
            async with self._http.stream("GET", _events_path(job)) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise error_of(response)
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        yield schemas.JobOut.model_validate_json(line[6:])
        except httpx2.RequestError as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    async def wait(
        self, job: str | schemas.Accepted, timeout: float | None = None
    ) -> schemas.JobOut:
        """The job when it is done; `JobFailed` where it is not, TimeoutError after so long."""
        for pause in _pauses(timeout):
            shown = await self.job(_id(job))
            if shown.state in _ENDED:
                return _done(shown)
            await asyncio.sleep(pause)
        raise TimeoutError(f"job {shown.id} is still {shown.state}")


def _request(
    http: httpx2.Client | httpx2.AsyncClient, call: Call[Any, Any], sent: Sent[Any]
) -> httpx2.Request:
    return http.build_request(
        call.method,
        _path(call.path, sent.path),
        params=sent.query or None,
        json=sent.json,
        content=sent.content,
        headers=dict(sent.headers),
    )


def _path(template: str, parts: Mapping[str, str]) -> str:
    for name, part in parts.items():
        # These would be taken for steps: `DELETE …/c/items/..` is `DELETE …/c`.
        if part in ("", ".", ".."):
            raise ValueError(f"{part!r} cannot stand for {name} in {template}")
    return template.format_map({name: quote(part, safe="") for name, part in parts.items()})


def _read(sent: Sent[T], came: httpx2.Response | httpx2.RequestError) -> T:
    answer = _answer(came)
    try:
        return sent.read(answer)
    except ValueError as error:
        raise BitcellError(
            f"expected an answer of Bitcell, got {answer.content[:100]!r}: {error}"
        ) from error


def _answer(came: httpx2.Response | httpx2.RequestError) -> httpx2.Response:
    if not isinstance(came, httpx2.Response):
        raise Unreachable(f"{type(came).__name__}: {came}") from came
    if came.status_code >= 400:
        raise error_of(came)
    if came.status_code >= 300:
        raise BitcellError(f"expected an answer, got a redirect to {came.headers.get('Location')}")
    return came


def _id(job: str | schemas.Accepted) -> str:
    return job if isinstance(job, str) else job.id


def _events_path(job: str | schemas.Accepted) -> str:
    return _path(EVENTS, {"job": _id(job)})


def _done(job: schemas.JobOut) -> schemas.JobOut:
    if job.state != "done":
        raise JobFailed(job)
    return job


def _pauses(timeout: float | None) -> Iterator[float]:
    """Ever longer pauses, so long in all, and none after the last look."""
    end, pause = math.inf if timeout is None else time.monotonic() + timeout, 0.05
    while (left := end - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(1.5 * pause, 2.0)
    yield 0.0


def _parts(
    ids: Sequence[str],
    descriptors: ArrayLike,
    labels: ArrayLike | None,
    payloads: Sequence[Mapping[str, Any] | None] | None,
    batch: int,
) -> list[tuple[Any, ...]]:
    X, marks = np.asarray(descriptors), None if labels is None else np.asarray(labels)
    lengths = {len(X), *(len(one) for one in (marks, payloads) if one is not None)}
    if lengths != {len(ids)}:
        raise ValueError(f"expected ids, labels and payloads one a descriptor: {len(X)}")
    # Payloads go as JSON, and all else with them.
    size = _DIGITS if payloads is not None else X.itemsize
    batch = max(1, min(batch, _BODY // max(1, size * math.prod(X.shape[1:]))))
    return [
        (
            ids[start : start + batch],
            X[start : start + batch],
            None if marks is None else marks[start : start + batch],
            None if payloads is None else payloads[start : start + batch],
        )
        for start in range(0, len(ids), batch)
    ]
