"""Items of a collection: put in, look at, take out, query."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from numpy.typing import ArrayLike, NDArray
from pydantic_core import to_json

from app.http import npy, schemas
from app.http.bodies import JSON, Raw, in_url, parse_url, raw_body, takes
from app.http.dependencies import BodyDep, ServiceDep
from app.http.routes.direct import Direct
from app.service.service import Service
from hashing import InvalidInput
from hashing.gist import Gist
from hashing.validation import as_labels
from index import Filter, Item, Neighbour, NotFound

IMAGE_DIMENSION = Gist().dimension
router = APIRouter(prefix="/v1/collections/{name}", tags=["items"], route_class=Direct)

_ITEMS_NPY = (
    "Two or three arrays, one after the other, as numpy.save writes them to one file: (n, d) "
    "numbers, (n,) strings, the ids, and if wanted (n,) integers, the labels, -1 for none."
)


@router.post(
    "/query",
    response_model=schemas.QueryOut,
    openapi_extra=takes(schemas.Query, "(n, d) numbers; all but `filter` in the URL.", images=True)
    | {"parameters": in_url(schemas.QueryInUrl)},
)
async def query_collection(name: str, request: Request) -> Response:
    """The nearest items by Hamming distance, exact, ties broken by id.

    An image file asks with its GIST descriptor, in a collection of those.
    """
    # The call that has to be quick: FastAPI's dependencies and threads cost it a millisecond.
    service: Service = request.app.state.service
    body, given = await raw_body(request), dict(request.query_params)
    loop = asyncio.get_running_loop()
    described = None
    if body.is_image:
        # What cannot be answered is not worth an image.
        _in_url(given)
        service.check_dimension(name, IMAGE_DIMENSION)
        described = await loop.run_in_executor(service.imaging, service.describe, [body.data])
    work = partial(copy_context().run, _query, service, name, body, given, described)
    answer = await loop.run_in_executor(service.queries, work)
    return Response(answer, media_type=JSON)


@router.put("/items", openapi_extra=takes(schemas.NewItems, _ITEMS_NPY))
def upsert_items(name: str, body: BodyDep, service: ServiceDep) -> schemas.Upserted:
    """Insert items, or replace those whose id is there: all or none, on disk when answered."""
    if body.is_npy:
        descriptors, ids, *rest = npy.read_arrays(body.data, npy.ITEMS, required=2)
        names = npy.strings(ids)
        labels = as_labels(rest[0], len(names)) if rest else None
        collection = service.upsert(name, names, npy.not_empty(descriptors), labels)
    else:
        items = body.parse(schemas.NewItems).items
        names = [item.id for item in items]
        collection = service.upsert(
            name,
            names,
            [item.descriptor for item in items],
            [item.label for item in items],
            [item.payload for item in items],
        )
    return schemas.Upserted(upserted=len(names), items=len(collection))


@router.get("/items", response_model=schemas.ItemsOut)
def list_items(
    name: str,
    service: ServiceDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=2**62)] = 0,
) -> Response:
    """Items from a place on, in an order that holds while nothing is written."""
    items, n = service.store.use(name, lambda collection: collection.items(offset, limit))
    return Response(to_json({"items": [_item(one) for one in items], "of": n}), media_type=JSON)


@router.get("/items/{item_id:path}", response_model=schemas.ItemOut)
def show_item(name: str, item_id: str, service: ServiceDep) -> Response:
    """One item."""
    item = service.store.use(name, lambda collection: collection.get(item_id))
    return JSONResponse(_item(item))


@router.delete("/items/{item_id:path}", status_code=204, response_class=Response)
def delete_item(name: str, item_id: str, service: ServiceDep) -> None:
    """Take out one item."""
    if not service.store.use(name, lambda collection: collection.delete([item_id])):
        raise NotFound(f"there is no item {item_id!r} in collection {name!r}")


@router.post("/items/delete", openapi_extra=takes(schemas.Ids))
def delete_items(name: str, body: BodyDep, service: ServiceDep) -> schemas.Deleted:
    """Take out items; ids that are not there are no error."""
    ids = body.parse(schemas.Ids).ids
    deleted = service.store.use(name, lambda collection: collection.delete(ids))
    return schemas.Deleted(deleted=deleted)


def _query(
    service: Service,
    name: str,
    body: Raw,
    given: dict[str, str],
    described: NDArray[np.float32] | None,
) -> bytes:
    asked: schemas.QueryInUrl | schemas.Query
    descriptors: ArrayLike | None
    if body.is_image or body.is_npy:
        asked = _in_url(given)
        if described is None:
            (matrix,) = npy.read_arrays(body.data, npy.DESCRIPTORS)
            described = npy.not_empty(matrix)
        descriptors, ids, condition = described, None, None
    else:
        if given:
            where = "the URL of a query in JSON: it stands in the body"
            raise InvalidInput(f"{', '.join(sorted(given))} cannot stand in {where}")
        asked = body.parse(schemas.Query)
        condition = None if asked.filter is None else Filter(asked.filter)
        if (asked.descriptors is None) == (asked.ids is None):
            raise InvalidInput("a query has either descriptors or ids of items")
        descriptors, ids = asked.descriptors, asked.ids
    found = service.query(
        name,
        asked.k,
        asked.radius,
        descriptors=descriptors,
        ids=ids,
        payloads=asked.payloads,
        codes=asked.codes,
        offset=asked.offset,
        where=condition,
        rerank=asked.rerank,
        rerank_by=asked.rerank_by,
    )
    answer: dict[str, Any] = {
        "results": [[_shown(near) for near in one.neighbours] for one in found],
        "certificates": [one.certificate for one in found],
    }
    if asked.codes:
        answer["codes"] = [one.code.hex() for one in found if one.code is not None]
    return to_json(answer)


def _in_url(given: dict[str, str]) -> schemas.QueryInUrl:
    if unknown := given.keys() - set(schemas.QueryInUrl.model_fields):
        raise InvalidInput(f"{', '.join(sorted(unknown))} cannot stand in the URL")
    return parse_url(schemas.QueryInUrl, given)


def _item(item: Item) -> dict[str, Any]:
    body = {"id": item.id, "code": item.code.hex(), "label": item.label, "payload": item.payload}
    return {key: value for key, value in body.items() if value is not None}


def _shown(near: Neighbour) -> dict[str, Any]:
    # Ten thousand a body are common: with a comprehension this takes thrice as long.
    shown: dict[str, Any] = {"id": near.id, "distance": near.distance}
    if near.label is not None:
        shown["label"] = near.label
    if near.payload is not None:
        shown["payload"] = near.payload
    if near.score is not None:
        shown["score"] = near.score
    if near.code is not None:
        shown["code"] = near.code.hex()
    return shown
