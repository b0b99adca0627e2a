"""Routes of collections: create, list, show, drop, re-encode, snapshot and restore."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.errors import Unready
from app.http import schemas
from app.http.accepted import accepted
from app.http.bodies import JSON, takes
from app.http.dependencies import BodyDep, ServiceDep
from app.service.collections.collections import ranking_of
from app.service.service import Service
from hashing import InvalidInput
from index import NotFound
from index.backend import Collection

STATISTICS_SECONDS = 10.0

router = APIRouter(prefix="/v1/collections", tags=["collections"])


@router.post("", status_code=201, openapi_extra=takes(schemas.NewCollection))
def create_collection(body: BodyDep, service: ServiceDep) -> schemas.CollectionOut:
    """Create an empty collection, for the codes of an encoder or for given codes of `n_bits`."""
    new = body.parse(schemas.NewCollection)
    return collection_out(
        service.collections.create(
            new.name,
            new.encoder,
            new.keep_descriptors,
            n_bits=new.n_bits,
            ranking=new.ranking,
            metric=new.metric,
        )
    )


@router.get("")
def list_collections(service: ServiceDep) -> list[schemas.CollectionOut]:
    """List all collections, sorted by name."""
    found = []
    for collection in service.collections.list():
        with suppress(NotFound):  # Another replica has dropped it since.
            found.append(collection_out(collection))
    return found


@router.put(
    "/{name}",
    response_model=schemas.CollectionOut,
    responses={201: {"model": schemas.CollectionOut, "description": "It has been created."}},
    openapi_extra=takes(schemas.CollectionSettings),
)
def get_or_create_collection(
    name: str, body: BodyDep, response: Response, service: ServiceDep
) -> schemas.CollectionOut:
    """Create a collection, or show the one that exists with the same settings."""
    wanted = body.parse(schemas.CollectionSettings)
    collection, is_new = service.collections.get_or_create(
        name,
        wanted.encoder,
        wanted.keep_descriptors,
        n_bits=wanted.n_bits,
        ranking=wanted.ranking,
        metric=wanted.metric,
    )
    response.status_code = 201 if is_new else 200
    return collection_out(collection)


@router.get("/{name}")
def show_collection(name: str, service: ServiceDep) -> schemas.CollectionOut:
    """Show one collection."""
    return collection_out(service.collections.get(name))


@router.get("/{name}/statistics", response_model=schemas.StatisticsOut)
async def collection_statistics(name: str, service: ServiceDep) -> Response:
    """Show how balanced and how correlated the bits are, and how many items share a code.

    In a large collection the figures come from a random sample; `looked` is its size.
    """
    work = service.statistics_pool.submit(_statistics, service, name)
    try:
        async with asyncio.timeout(STATISTICS_SECONDS):
            return Response(await asyncio.wrap_future(work), media_type=JSON)
    except TimeoutError:
        raise Unready(
            f"the statistics are not ready after {STATISTICS_SECONDS:g} s: try again later"
        ) from None


@router.post("/{name}/drift/reference")
def accept_drift(name: str, body: BodyDep, service: ServiceDep) -> schemas.DriftOut:
    """Compare new items with all present ones from now on, and forget the alarms.

    The collection needs at least 2,000 items. Codes, items and encoder stay as they are.
    """
    if body.data.strip() not in (b"", b"{}"):
        raise InvalidInput("this call takes no body")
    return schemas.DriftOut(**service.collections.accept_drift(name))


@router.delete("/{name}", status_code=204, response_class=Response)
def drop_collection(name: str, service: ServiceDep) -> None:
    """Delete a collection and its items."""
    service.collections.drop(name)


@router.post("/{name}/reencode", status_code=202, openapi_extra=takes(schemas.Reencode))
def reencode_collection(
    name: str, body: BodyDep, request: Request, response: Response, service: ServiceDep
) -> schemas.Accepted:
    """Start a job that re-encodes a collection from the descriptors it keeps.

    With `ranking`, it also changes how the collection ranks items.

    The collection answers queries and accepts writes until the job ends. Then the new codes
    replace the old ones in one step.
    """
    wanted = body.parse(schemas.Reencode)
    job = service.collections.reencode(name, wanted.encoder, wanted.ranking, wanted.metric)
    return accepted(request, response, "show_job", job=job)


@router.post("/{name}/duplicates", status_code=202, openapi_extra=takes(schemas.FindDuplicates))
def find_duplicates(
    name: str, body: BodyDep, request: Request, response: Response, service: ServiceDep
) -> schemas.Accepted:
    """Start a job that finds all near-duplicates: pairs of items within a Hamming distance.

    It compares the items that the collection holds when the job starts, and puts those that are
    connected by pairs into groups.
    """
    new = body.parse(schemas.FindDuplicates)
    job = service.duplicates.start(name, new.radius, new.filter, new.max_pairs)
    return accepted(request, response, "show_job", job=job)


@router.post("/{name}/snapshots", status_code=201, response_model_exclude_none=True)
def snapshot_collection(
    name: str,
    body: BodyDep,
    service: ServiceDep,
    keep: Annotated[
        schemas.UrlInteger | None,
        Query(
            ge=1,
            description="How many snapshots of the collection to keep: older ones that this call "
            "has made are deleted.",
        ),
    ] = None,
) -> schemas.SnapshotOut:
    """Write the current items to a file in the data directory, while the collection is in use."""
    if body.data.strip() not in (b"", b"{}"):
        raise InvalidInput("this call takes no body: give keep in the URL, as in ?keep=7")
    file, items, removed = service.snapshots.write(name, keep)
    return schemas.SnapshotOut(
        snapshot=file, items=items, removed=None if keep is None else removed
    )


@router.post("/{name}/restore", status_code=201, openapi_extra=takes(schemas.Restore))
def restore_collection(name: str, body: BodyDep, service: ServiceDep) -> schemas.CollectionOut:
    """Create a collection from a snapshot.

    If the service has no encoder of that name, the one in the snapshot is created. A damaged
    snapshot is refused, and so is one whose encoder's name belongs to another encoder. One of given
    codes needs no encoder.
    """
    wanted = body.parse(schemas.Restore)
    return collection_out(service.snapshots.restore(name, wanted.snapshot, wanted.encoder))


def _statistics(service: Service, name: str) -> str:
    return schemas.StatisticsOut(**service.collections.statistics(name)).model_dump_json()


def collection_out(collection: Collection) -> schemas.CollectionOut:
    """Return the description of a collection that answers contain."""
    return schemas.CollectionOut(
        name=collection.name,
        encoder=collection.encoder or None,
        fingerprint=collection.fingerprint or None,
        n_bits=collection.n_bits,
        items=len(collection),
        keep_descriptors=collection.keep_descriptors,
        descriptor_type=collection.descriptor_type,
        ranking=ranking_of(collection),
        metric=collection.metric,
    )
