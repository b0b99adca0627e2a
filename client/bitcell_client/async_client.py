"""The client whose calls are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx2
from numpy.typing import ArrayLike

from bitcell_client.batches import BATCH, batches
from bitcell_client.call import AsyncSender, Call, Request
from bitcell_client.codes import Codes
from bitcell_client.connection import Connection, build_request, read_answer, unreachable
from bitcell_client.errors import service_error
from bitcell_client.following import event, events_path, has_ended, job_id, pauses
from bitcell_client.results import Accepted, Job

T = TypeVar("T")


class AsyncClient(Connection, AsyncSender):
    """A client of a Bitcell service whose calls are awaited; close it, or use `async with`.

    It takes the parameters of `Client`, and has the same methods.
    """

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

    async def _send(self, call: Call[Any, Any], request: Request[T]) -> T:
        attempt = 0
        while True:
            outcome: httpx2.Response | httpx2.RequestError
            try:
                outcome = await self._http.send(build_request(self._http, call, request))
            except httpx2.RequestError as error:
                outcome = error
            pause = self._pause(call, outcome, attempt)
            if pause is None:
                return read_answer(request, outcome)
            await asyncio.sleep(pause)
            attempt += 1

    async def load(
        self,
        name: str,
        ids: Sequence[str],
        descriptors: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        payloads: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        codes: Codes | None = None,
        batch: int = BATCH,
    ) -> int:
        """Upsert any number of items, with descriptors or codes, at most `batch` per request.

        Returns
        -------
        int
            The number of items that the collection then holds.
        """
        parts = batches(ids, descriptors, labels, payloads, codes, batch)
        held = (await self.collection(name)).items
        for part in parts:
            held = (await self.upsert(name, **part)).items
        return held

    async def events(self, job: str | Accepted) -> AsyncIterator[Job]:
        """Yield the job now and at every change, until it has ended or the service stops."""
        try:
            async with self._http.stream("GET", events_path(job)) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise service_error(response)
                async for line in response.aiter_lines():
                    if (shown := event(line)) is not None:
                        yield shown
        except httpx2.RequestError as error:
            raise unreachable(error) from error

    async def wait(self, job: str | Accepted, timeout: float | None = None) -> Job:
        """Return the job when it is done.

        Raises
        ------
        JobFailed
            It failed or was cancelled.
        TimeoutError
            It has not ended after `timeout` seconds.
        """
        for pause in pauses(timeout):
            shown = await self.job(job_id(job))
            if has_ended(shown):
                return shown
            await asyncio.sleep(pause)
        raise TimeoutError(f"job {shown.id} is still {shown.state} after {timeout} s")
