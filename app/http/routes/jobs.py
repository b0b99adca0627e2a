"""Routes of jobs: list, show, follow and cancel."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from app.http import npy, schemas
from app.http.dependencies import ServiceDep
from app.http.job_events import JobEvents

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LINES = "application/x-ndjson"
"""JSON lines: one JSON value a line."""

_EVENT = {
    "type": "object",
    "properties": {
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/JobOut"},
        }
    },
    "required": ["data"],
}


@router.get("")
def list_jobs(
    service: ServiceDep, limit: Annotated[schemas.UrlInteger, Query(ge=1, le=1000)] = 100
) -> list[schemas.JobOut]:
    """List the newest jobs, newest first, without their results."""
    return [schemas.JobOut(**found) for found in service.jobs.newest(limit=limit)]


@router.get("/{job}")
def show_job(job: str, service: ServiceDep) -> schemas.JobOut:
    """Show the state and progress of a job and, once it has ended, its result or error."""
    return schemas.JobOut(**service.jobs.get(job))


@router.get(
    "/{job}/groups",
    response_class=StreamingResponse,
    response_description="JSON lines, one a group, or npy.",
    responses={
        200: {
            "content": {
                LINES: {"schema": {"type": "string"}},
                npy.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
            }
        }
    },
)
def show_groups(job: str, request: Request, service: ServiceDep) -> Response:
    """Return the groups that a search for duplicates found, the largest first.

    The answer has a JSON object a line or, if `Accept` asks for it, three arrays in npy.
    """
    groups = service.duplicates.groups(job)
    if npy.MEDIA_TYPE in request.headers.get("accept", ""):
        return StreamingResponse(groups.npy(), media_type=npy.MEDIA_TYPE)
    return StreamingResponse(groups.lines(), media_type=LINES)


@router.delete("/{job}", status_code=204, response_class=Response)
def remove_job(job: str, service: ServiceDep) -> None:
    """Cancel a queued or running job; delete an ended one from the record."""
    service.jobs.remove(job)


@router.get(
    "/{job}/events",
    response_class=StreamingResponse,  # With EventSourceResponse FastAPI expects a generator.
    response_description="Server-sent events: each is the job as JSON, the last when it has ended.",
    responses={200: {"content": {"text/event-stream": {"itemSchema": _EVENT}}}},
)
async def follow_job(job: str, request: Request, service: ServiceDep) -> Response:
    """Send the job now and after every change, until it ends or the service stops."""
    await run_in_threadpool(service.jobs.get, job)  # Raises NotFound before the stream starts.
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    events: JobEvents = request.app.state.job_events
    return EventSourceResponse(
        events.follow(job, request.scope["bitcell.is_allowed"]),
        headers={"X-Accel-Buffering": "no"},  # Proxies must not hold events back.
    )
