"""Routes of jobs: list, show, follow and cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.http import schemas
from app.http.dependencies import ServiceDep
from app.jobs.queue import ENDED
from app.service.service import Service

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_EVENT = {
    "type": "object",
    "properties": {"data": {"type": "string", "contentMediaType": "application/json"}},
    "required": ["data"],
}
QUIET = 15.0  # seconds until a comment says that the connection lives


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


@router.get(
    "/{job}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: each the job as JSON, the last when it has ended.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        }
    },
)
async def follow_job(job: str, service: ServiceDep) -> StreamingResponse:
    """Stream the job now and after every change, until it ends or the service stops."""
    first = await run_in_threadpool(service.jobs.get, job)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        _events(service, schemas.JobOut(**first)), media_type="text/event-stream", headers=headers
    )


async def _events(service: Service, shown: schemas.JobOut) -> AsyncIterator[str]:
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    jobs = service.jobs
    stop = jobs.listen(lambda: loop.call_soon_threadsafe(changed.set))
    sent = None
    try:
        while True:
            if shown != sent:
                yield f"data: {shown.model_dump_json()}\n\n"
                sent = shown
            if shown.state in ENDED or jobs.stopping:
                return
            try:
                async with asyncio.timeout(QUIET):
                    await changed.wait()
            except TimeoutError:
                yield ": still here\n\n"
            changed.clear()
            shown = schemas.JobOut(**await run_in_threadpool(jobs.get, shown.id))
    finally:
        stop()
