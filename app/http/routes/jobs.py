"""Routes of jobs: list, show, follow and cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from app.http import schemas
from app.http.dependencies import ServiceDep
from app.jobs.queue import ENDED
from index import NotFound

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("")
def list_jobs(
    service: ServiceDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[schemas.JobOut]:
    """List the newest jobs, newest first, without their results."""
    return [schemas.JobOut(**found) for found in service.jobs.newest(limit=limit)]


@router.get("/{job}")
def show_job(job: str, service: ServiceDep) -> schemas.JobOut:
    """Show the state and progress of a job and, once it has ended, its result or error."""
    return schemas.JobOut(**service.jobs.get(job))


@router.delete("/{job}", status_code=204, response_class=Response)
def remove_job(job: str, service: ServiceDep) -> None:
    """Cancel a queued or running job; delete an ended one from the record."""
    service.jobs.remove(job)


async def _job_changes(job: str, service: ServiceDep) -> AsyncIterator[asyncio.Event]:
    """Yield an event that is set at every change of a job; raise NotFound before the stream starts.

    It subscribes before anything is read, so that no change falls between a read and the wait.
    """
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    unsubscribe = service.jobs.listen(lambda: loop.call_soon_threadsafe(changed.set))
    try:
        await run_in_threadpool(service.jobs.get, job)
        yield changed
    finally:
        unsubscribe()


@router.get(
    "/{job}/events",
    response_class=EventSourceResponse,
    response_description="Server-sent events: each is the job as JSON, the last when it has ended.",
)
async def follow_job(
    job: str, service: ServiceDep, changed: Annotated[asyncio.Event, Depends(_job_changes)]
) -> AsyncIterator[schemas.JobOut]:
    """Send the job now and after every change, until it ends or the service stops."""
    sent = None
    while True:
        changed.clear()
        try:
            shown = schemas.JobOut(**await run_in_threadpool(service.jobs.get, job))
        except NotFound:
            return  # Removed after it ended: there is nothing left to follow.
        if shown != sent:
            yield shown
            sent = shown
        if shown.state in ENDED or service.jobs.stopping:
            return
        await changed.wait()
