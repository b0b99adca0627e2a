"""Routes of items: insert, list, show, change, delete and query."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray

from app.http import answers, npy, schemas
from app.http.bodies import JSON, Raw, in_url, parse_url, raw_body, takes
from app.http.dependencies import BodyDep, ServiceDep
from app.http.routes.direct import Direct
from app.http.routes.gist import IMAGE_DIMENSION
from app.service.checks import check_batch
from app.service.collections.searches import Answered
from app.service.deadline import Deadline
from app.service.measured.calibrations import NOTHING_ASKED, Asked
from app.service.service import Service
from hashing import InvalidInput
from hashing.validation import as_labels
from index import Filter, SearchOptions

router = APIRouter(prefix="/v1/collections/{name}", tags=["items"], route_class=Direct)

_ADVICE = "ask for fewer queries or neighbours (k), or leave out payloads or codes"
_HOLDS = (
    "What the first array of an npy body holds. By default, what the collection takes: descriptors "
    "if it has an encoder, else codes."
)
_MADE_BY = (
    "The fingerprint of the encoder that made the codes of the items. A collection with an encoder "
    "takes codes only with the fingerprint of that encoder, and an npy body of them with `holds`."
)
_ONLY_NPY = "`holds` says what an npy body holds; leave it out for any other"
_ITEMS_NPY = (
    "Two or three arrays that numpy.save wrote to one file, in this order: descriptors, (n, d) "
    "numbers, or in a collection without an encoder packed codes, (n, ceil(n_bits / 8)) uint8; "
    "ids, (n,) strings or integers; optionally labels, (n,) integers, -1 for none."
)
_QUERIES_NPY = (
    "(n, d) numbers, or in a collection without an encoder packed codes, (n, ceil(n_bits / 8)) "
    "uint8; all but `filter` in the URL."
)


@router.post(
    "/query",
    response_model=schemas.QueryOut,
    openapi_extra=takes(schemas.Query, _QUERIES_NPY, images=True)
    | {"parameters": in_url(schemas.QueryInUrl)},
)
async def query_collection(name: str, request: Request) -> Response:
    """Find the nearest items by Hamming distance. The answer is exact; ties are ordered by id.

    The body may be an image file if the collection holds codes of GIST descriptors.
    """
    # The call that must be quick: FastAPI's dependencies and threads would add a millisecond.
    service: Service = request.app.state.service
    body, parameters = await raw_body(request), dict(request.query_params)
    deadline = service.searches.deadline()
    loop = asyncio.get_running_loop()
    descriptors = None
    if body.is_image:
        # Check all else first: decoding an image costs the most.
        parse_url(schemas.QueryInUrl, parameters)
        service.searches.check_dimension(name, IMAGE_DIMENSION)
        descriptors = await loop.run_in_executor(
            service.image_pool, service.describe_images, [body.data]
        )
    run = copy_context().run
    work = partial(run, _query, service, name, body, parameters, descriptors, deadline)
    answer = await loop.run_in_executor(service.query_pool, work)
    if not isinstance(answer, bytes):
        answer = await loop.run_in_executor(service.slow_query_pool, run, answer)
    return Response(answer, media_type=JSON)


@router.put("/items", openapi_extra=takes(schemas.NewItems, _ITEMS_NPY))
def upsert_items(
    name: str,
    body: BodyDep,
    service: ServiceDep,
    holds: Annotated[schemas.Holds | None, Query(description=_HOLDS)] = None,
    fingerprint: Annotated[
        str | None, Query(description=_MADE_BY, pattern="^[0-9a-f]{64}$")
    ] = None,
) -> schemas.Upserted:
    """Insert items, or replace those with the same id: all or none, on disk when answered."""
    if body.is_npy:
        given, (ids, *rest) = _matrix(service, name, body, holds, npy.OF_ITEMS, required=2)
        # Before each id becomes a string, which may take sixty times as much memory.
        check_batch(ids.size, service.settings)
        names = npy.strings(ids)
        labels = as_labels(rest[0], len(names)) if rest else None
        collection = service.collections.upsert(
            name, names, labels=labels, fingerprint=fingerprint, **given
        )
    elif holds is not None:
        raise InvalidInput(_ONLY_NPY)
    else:
        items = body.parse(schemas.NewItems).items
        names = [item.id for item in items]
        collection = service.collections.upsert(
            name,
            names,
            labels=[item.label for item in items],
            payloads=[item.payload for item in items],
            fingerprint=fingerprint,
            **_given_with(items),
        )
    return schemas.Upserted(upserted=len(names), items=service.collections.n_items(collection))


@router.get("/items", response_model=schemas.ItemsOut)
def list_items(
    name: str,
    service: ServiceDep,
    limit: Annotated[schemas.UrlInteger, Query(ge=1, le=1000)] = 100,
    offset: Annotated[schemas.UrlInteger, Query(ge=0, le=2**62)] = 0,
) -> Response:
    """List items, oldest first. The order is stable while nothing is written."""
    with service.answers.counted(answers.fewer_items(limit)) as size:
        items, n = service.collections.items(name, offset, limit, size)
        return Response(answers.of_items(items, n), media_type=JSON)


@router.get("/items/{item_id:path}", response_model=schemas.ItemOut)
def show_item(name: str, item_id: str, service: ServiceDep) -> Response:
    """Show one item."""
    return Response(answers.of_item(service.collections.item(name, item_id)), media_type=JSON)


@router.delete("/items/{item_id:path}", status_code=204, response_class=Response)
def delete_item(name: str, item_id: str, service: ServiceDep) -> None:
    """Delete one item."""
    service.collections.delete_item(name, item_id)


@router.patch(
    "/items/{item_id:path}",
    response_model=schemas.ItemOut,
    openapi_extra=takes(schemas.ItemPatch),
)
def change_item(name: str, item_id: str, body: BodyDep, service: ServiceDep) -> Response:
    """Change the label or the payload of an item, and return it as it is then."""
    patch = body.parse(schemas.ItemPatch).as_given()
    item = service.collections.patch_item(name, item_id, patch)
    return Response(answers.of_item(item), media_type=JSON)


@router.patch("/items", openapi_extra=takes(schemas.ItemChanges))
def change_items(name: str, body: BodyDep, service: ServiceDep) -> schemas.Changed:
    """Change labels or payloads of items: all or none, on disk when answered."""
    items = body.parse(schemas.ItemChanges).items
    ids, patches = [item.id for item in items], [item.as_given() for item in items]
    collection = service.collections.patch(name, ids, patches)
    return schemas.Changed(changed=len(ids), items=service.collections.n_items(collection))


def _matrix(
    service: Service,
    name: str,
    body: Raw,
    holds: schemas.Holds | None,
    more: dict[str, str],
    required: int = 1,
) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Return the descriptors or codes of an npy body, by that name, and the arrays after it.

    Without `holds` they are what the collection takes. `more` and `required` are those of
    `npy.read_arrays`.
    """
    has_codes = holds == "codes" if holds else service.collections.takes_codes(name)
    first = npy.CODES if has_codes else npy.DESCRIPTORS
    matrix, *rest = npy.read_arrays(body.data, first | more, required)
    (what,) = first
    return {what: npy.not_empty(matrix, what)}, rest


def _given_with(items: list[schemas.NewItem]) -> dict[str, Any]:
    """Return what items come with, by its name: all with descriptors, or all with codes.

    Raise InvalidInput if it is not the same for all items.
    """
    descriptors = [item.descriptor for item in items if item.descriptor is not None]
    codes = [item.code for item in items if item.code is not None]
    if len(descriptors) == len(items) and not codes:
        return {"descriptors": descriptors}
    if len(codes) == len(items) and not descriptors:
        return {"codes": codes}
    has_code = items[0].code is not None
    place = next(
        place
        for place, item in enumerate(items)
        if (item.code is not None, item.descriptor is None) != (has_code, has_code)
    )
    given = [name for name in ("descriptor", "code") if getattr(items[place], name) is not None]
    raise InvalidInput(
        "expected a descriptor for each item, or a code for each; item "
        f"{place} has {' and '.join(given) or 'neither'}"
    )


def _query(
    service: Service,
    name: str,
    body: Raw,
    parameters: dict[str, str],
    descriptors: NDArray[np.float32] | None,
    deadline: Deadline,
) -> bytes | Callable[[], bytes]:
    """Parse a query, search, and return the answer as JSON. Runs in a thread of the query pool.

    If the search may take long, return a function that does it and returns the answer.
    """
    given: dict[str, Any]
    if body.is_image or body.is_npy:
        url = parse_url(schemas.QueryInUrl, parameters)
        about = _asked(url)
        options = _options(service, url, about)
        given = {"descriptors": descriptors}
        if descriptors is None:
            given, _ = _matrix(service, name, body, url.holds, {})
        elif url.holds is not None:
            raise InvalidInput(_ONLY_NPY)
    else:
        if parameters:
            raise InvalidInput(
                f"{', '.join(sorted(parameters))}: give the options of a JSON query in the body, "
                "not in the URL"
            )
        query = body.parse(schemas.Query)
        codes = query.codes if isinstance(query.codes, list) else None
        fields = {"descriptors": query.descriptors, "ids": query.ids, "codes": codes}
        given = {name: queries for name, queries in fields.items() if queries is not None}
        if len(given) != 1:
            raise InvalidInput(
                "expected one of descriptors, ids of items, and codes; got "
                f"{' and '.join(given) or 'none of them'}"
            )
        about = _asked(query)
        where = None if query.filter is None else Filter(query.filter)
        options = _options(service, query, about, where)
    search = partial(service.searches.search, name, options, about=about, **given)
    (n_queries,) = map(len, given.values())
    answer = partial(_answer, service, partial(search, deadline=deadline), options)
    return answer if service.searches.is_slow(name, options, n_queries, about) else answer()


def _answer(service: Service, search: Callable[..., Answered], options: SearchOptions) -> bytes:
    with service.answers.counted(_ADVICE) as size:
        return answers.of_query(*search(size=size), codes=options.codes)


def _asked(query: schemas.Query | schemas.QueryInUrl) -> Asked:
    if not query.calibrated and query.false_match_rate is None:
        return NOTHING_ASKED
    return Asked(query.calibrated, query.false_match_rate)


def _options(
    service: Service,
    query: schemas.Query | schemas.QueryInUrl,
    about: Asked,
    where: Filter | None = None,
) -> SearchOptions:
    return service.searches.options(
        query.k,
        query.radius,
        about,
        max_score=query.max_score,
        offset=query.offset,
        where=where,
        rerank=query.rerank,
        rerank_by=query.rerank_by,
        confidence=query.confidence,
        payloads=query.payloads,
        codes=query.return_codes or query.codes is True,
    )
