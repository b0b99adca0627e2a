"""The client whose calls are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeVar, overload

import httpx2
from numpy.typing import ArrayLike

from bitcell_client.arguments import AnyJob, Codes, job_id
from bitcell_client.batches import BATCH, batches
from bitcell_client.call import AsyncSender, Call, Request, answer_as
from bitcell_client.connection import Connection, build_request, read_answer, unreachable
from bitcell_client.errors import service_error
from bitcell_client.files import dataset_path, headers_for, parts, snapshot_path, written
from bitcell_client.following import ProgressLine, event, events_path, has_ended, pauses
from bitcell_client.results import Accepted, Encoder, Job, SnapshotFile, UploadedDataset

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
        answer = await self._send_one(call, request)
        if request.join is None:
            return answer
        return request.join([answer, *[await self._send_one(call, one) for one in request.more]])

    async def _send_one(self, call: Call[Any, Any], request: Request[T]) -> T:
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
        ids: Iterable[str | int],
        descriptors: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        payloads: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        codes: Codes | None = None,
        fingerprint: str | None = None,
        batch: int = BATCH,
    ) -> int:
        """Upsert any number of items, with descriptors or codes, at most `batch` per request.

        Parameters are those of `upsert`. Each request is all or nothing, and ids must be distinct.
        An error says which row it is about and how many rows are stored; after correcting it, load
        all or the rest.

        Returns
        -------
        int
            The number of items that the collection then holds.
        """
        parts = batches(ids, descriptors, labels, payloads, codes, batch)
        held = (await self.collection(name)).items
        for part in parts:
            with part.described():
                held = (await self.upsert(name, **part.arguments, fingerprint=fingerprint)).items
        return held

    async def events(self, job: AnyJob) -> AsyncIterator[Job]:
        """Yield the job now and at every change, until it has ended or the service stops."""
        try:
            async with self._http.stream("GET", events_path(job)) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise service_error(response)
                async for line in response.aiter_lines():
                    if (shown := event(response.request, line)) is not None:
                        yield shown
        except httpx2.RequestError as error:
            raise unreachable(error) from error

    async def download_snapshot(self, snapshot: str, file: str | PathLike[str]) -> None:
        """Write a snapshot of the service to a file, which appears when it is complete."""
        try:
            async with self._http.stream("GET", snapshot_path(snapshot)) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise service_error(response)
                with written(file) as target:
                    async for part in response.aiter_bytes():
                        await asyncio.to_thread(target.write, part)
        except httpx2.RequestError as error:
            raise unreachable(error) from error

    async def upload_snapshot(
        self, file: str | PathLike[str], snapshot: str | None = None
    ) -> SnapshotFile:
        """Store a snapshot file in the service, by default under its own name.

        The service answers when it has verified the file. `restore` makes a collection from it.
        """
        path = snapshot_path(Path(file).name if snapshot is None else snapshot)
        return await self._upload(path, file, Request(answer_as(SnapshotFile)))

    async def upload_dataset(
        self, file: str | PathLike[str], dataset: str | None = None
    ) -> UploadedDataset:
        """Store a dataset file in the service, by default under its name without the suffix.

        `.fvecs` and `.ivecs` are kept: they say whether values are floats or integers. It is an
        npz, npy, fvecs, bvecs, ivecs, HDF5 or parquet file. The service answers when it has read
        it, which takes about as long as loading it does.
        """
        return await self._upload(
            dataset_path(file, dataset), file, Request(answer_as(UploadedDataset))
        )

    async def _upload(self, path: str, file: str | PathLike[str], request: Request[T]) -> T:
        headers = headers_for(file)
        with await asyncio.to_thread(Path(file).open, "rb") as source:
            left = parts(source)

            async def content() -> AsyncIterator[bytes]:
                while (part := await asyncio.to_thread(next, left, None)) is not None:
                    yield part

            try:
                response = await self._http.put(path, content=content(), headers=headers)
            except httpx2.RequestError as error:
                raise unreachable(error) from error
        return read_answer(request, response)

    @overload
    async def wait(
        self, job: Encoder, timeout: float | None = None, *, progress: bool | None = None
    ) -> Encoder: ...
    @overload
    async def wait(
        self, job: str | Accepted, timeout: float | None = None, *, progress: bool | None = None
    ) -> Job: ...
    async def wait(
        self,
        job: str | Accepted | Encoder,
        timeout: float | None = None,
        *,
        progress: bool | None = None,
    ) -> Job | Encoder:
        """Return the job when it is done.

        Parameters
        ----------
        job : str, Accepted or Encoder
            The job. An encoder that `create_encoder` made at once is returned as it is, so that
            `wait(create_encoder(...))` works for every method.
        timeout : float, optional
            The most seconds to wait.
        progress : bool, optional
            Whether to show on stderr how far the job is; by default in a terminal or notebook.

        Raises
        ------
        JobFailed
            It failed or was cancelled.
        TimeoutError
            It has not ended after `timeout` seconds.
        """
        if isinstance(job, Encoder):
            return job
        with ProgressLine(progress) as line:
            for pause in pauses(timeout):
                shown = await self.job(job_id(job))
                if has_ended(shown):
                    return shown
                line.show(shown)
                await asyncio.sleep(pause)
        raise TimeoutError(f"job {shown.id} is still {shown.state} after {timeout} s")
