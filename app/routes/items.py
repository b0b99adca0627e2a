"""Items of a collection: put in, look at, take out, query."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from numpy.typing import ArrayLike

from app import npy, schemas
from app.bodies import takes
from app.deps import BodyDep, ServiceDep
from hashing import InvalidInput
from hashing.checks import as_labels
from index import Filter, Neighbour, NotFound

router = APIRouter(prefix="/v1/collections/{name}", tags=["items"])

_WITH_NPY = ("k", "radius", "payloads", "offset", "rerank", "rerank_by")
_ITEMS_NPY = (
    "Two or three arrays, one after the other, as numpy.save writes them to one file: (n, d) "
    "numbers, (n,) strings, the ids, and if wanted (n,) integers, the labels, -1 for none."
)


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


@router.get("/items/{item_id:path}", response_model=schemas.ItemOut)
def show_item(name: str, item_id: str, service: ServiceDep) -> Response:
    """One item."""
    item = service.store.use(name, lambda collection: collection.get(item_id))
    body = {"id": item.id, "code": item.code.hex(), "label": item.label, "payload": item.payload}
    return JSONResponse({key: value for key, value in body.items() if value is not None})


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


@router.post(
    "/query",
    response_model=schemas.QueryOut,
    openapi_extra=takes(schemas.Query, "(n, d) numbers; all but `filter` in the URL."),
)
def query_collection(
    name: str,
    body: BodyDep,
    service: ServiceDep,
    request: Request,
    k: Annotated[
        int | None, Query(ge=1, description="With npy; in JSON it stands in the body.")
    ] = None,
    radius: Annotated[int | None, Query(ge=0, le=2**31 - 2, description="With npy.")] = None,
    payloads: Annotated[bool, Query(description="With npy.")] = True,
    offset: Annotated[int, Query(ge=0, description="With npy.")] = 0,
    rerank: Annotated[int | None, Query(ge=1, description="With npy.")] = None,
    rerank_by: Annotated[schemas.RerankBy | None, Query(description="With npy.")] = None,
) -> Response:
    """The nearest items by Hamming distance, exact, ties broken by id."""
    known = _WITH_NPY if body.is_npy else ()
    if unknown := set(request.query_params) - set(known):
        where = "the URL" if body.is_npy else "the URL of a query in JSON: it stands in the body"
        raise InvalidInput(f"{', '.join(sorted(unknown))} cannot stand in {where}")
    if body.is_npy:
        (matrix,) = npy.read_arrays(body.data, npy.DESCRIPTORS)
        descriptors: ArrayLike | None = npy.not_empty(matrix)
        ids = None
        condition: Filter | None = None
    else:
        asked = body.parse(schemas.Query)
        k, radius, payloads, offset = asked.k, asked.radius, asked.payloads, asked.offset
        rerank, rerank_by = asked.rerank, asked.rerank_by
        condition = None if asked.filter is None else Filter(asked.filter)
        if (asked.descriptors is None) == (asked.ids is None):
            raise InvalidInput("a query has either descriptors or ids of items")
        ids = asked.ids
        descriptors = asked.descriptors
    found = service.query(
        name,
        k,
        radius,
        descriptors=descriptors,
        ids=ids,
        payloads=payloads,
        offset=offset,
        where=condition,
        rerank=rerank,
        rerank_by=rerank_by,
    )
    return JSONResponse(
        {
            "results": [[_shown(near) for near in one.neighbours] for one in found],
            "certificates": [asdict(one.certificate) for one in found],
        }
    )


def _shown(near: Neighbour) -> dict[str, Any]:
    more = {"label": near.label, "payload": near.payload, "score": near.score}
    return {"id": near.id, "distance": near.distance} | {
        key: value for key, value in more.items() if value is not None
    }
