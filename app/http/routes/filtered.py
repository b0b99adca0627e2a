"""Routes of the items that match a filter: count, list and delete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import partial

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from app.http import answers, schemas
from app.http.bodies import JSON, Raw, raw_body, takes
from app.http.routes.direct import Direct
from app.service.deadline import Deadline
from app.service.service import Service
from hashing import InvalidInput
from index import Filter

router = APIRouter(prefix="/v1/collections/{name}", tags=["items"], route_class=Direct)

Answer = bytes | Callable[[], bytes]
"""An answer as JSON, or a function that may take long and returns it."""


@router.post("/items/delete", response_model=schemas.Deleted, openapi_extra=takes(schemas.ToDelete))
async def delete_items(name: str, request: Request) -> Response:
    """Delete the items with some ids, of which unknown ones are skipped, or those that match."""
    return await _by_filter(name, request, _delete, writes=True)


@router.post("/items/count", response_model=schemas.Counted, openapi_extra=takes(schemas.ToCount))
async def count_items(name: str, request: Request) -> Response:
    """Count the items that match a filter."""
    return await _by_filter(name, request, _count)


@router.post("/items/list", response_model=schemas.ItemsOut, openapi_extra=takes(schemas.ToList))
async def list_matching_items(name: str, request: Request) -> Response:
    """List items that match a filter, in the order of all items."""
    return await _by_filter(name, request, _list)


async def _by_filter(
    name: str,
    request: Request,
    work: Callable[[Service, str, Raw, Deadline], Answer],
    *,
    writes: bool = False,
) -> Response:
    """Parse the body and answer, in the pools of queries so that the event loop stays free.

    A write that is not slow runs in a thread of FastAPI, as others do: no query waits for its disk.
    """
    service: Service = request.app.state.service
    body, deadline = await raw_body(request), service.searches.deadline()
    loop, run = asyncio.get_running_loop(), copy_context().run
    call = partial(run, work, service, name, body, deadline)
    if writes:
        answer = await run_in_threadpool(call)
    else:
        answer = await loop.run_in_executor(service.query_pool, call)
    if not isinstance(answer, bytes):
        answer = await loop.run_in_executor(service.slow_query_pool, run, answer)
    return Response(answer, media_type=JSON)


def _delete(service: Service, name: str, body: Raw, deadline: Deadline) -> Answer:
    request = body.parse(schemas.ToDelete)
    if request.filter is None:
        if request.ids is None:
            raise InvalidInput("expected ids of items or a filter")
        return _json(schemas.Deleted(deleted=service.collections.delete_items(name, request.ids)))
    if request.ids is not None:
        raise InvalidInput(
            'expected either ids of items or a filter, which can name ids: {"id": {"in": […]}}'
        )
    where = Filter(request.filter)

    def delete() -> bytes:
        n = service.collections.delete_matching(name, where, deadline.check)
        return _json(schemas.Deleted(deleted=n))

    return delete


def _count(service: Service, name: str, body: Raw, deadline: Deadline) -> Answer:
    where = Filter(body.parse(schemas.ToCount).filter)

    def count() -> bytes:
        return _json(schemas.Counted(count=service.collections.count(name, where, deadline.check)))

    return count if service.collections.is_slow(name, where) else count()


def _list(service: Service, name: str, body: Raw, deadline: Deadline) -> Answer:
    request = body.parse(schemas.ToList)
    where = Filter(request.filter)

    def page() -> bytes:
        with service.answers.counted(answers.fewer_items(request.limit)) as size:
            return answers.of_items(
                *service.collections.items(
                    name, request.offset, request.limit, size, where, deadline.check
                )
            )

    return page if service.collections.is_slow(name, where) else page()


def _json(answer: BaseModel) -> bytes:
    return answer.model_dump_json().encode()
