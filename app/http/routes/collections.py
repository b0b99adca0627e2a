"""Collections: make, list, show, drop."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.http import schemas
from app.http.bodies import takes
from app.http.dependencies import BodyDep, ServiceDep
from app.service.statistics import statistics
from index import Collection

router = APIRouter(prefix="/v1/collections", tags=["collections"])


@router.post("", status_code=201, openapi_extra=takes(schemas.NewCollection))
def create_collection(body: BodyDep, service: ServiceDep) -> schemas.CollectionOut:
    """Make an empty collection for the codes of an encoder."""
    new = body.parse(schemas.NewCollection)
    return _out(service.create_collection(new.name, new.encoder, new.keep_descriptors))


@router.get("")
def list_collections(service: ServiceDep) -> list[schemas.CollectionOut]:
    """All collections, by name."""
    return [_out(collection) for collection in service.store.list()]


@router.get("/{name}")
def show_collection(name: str, service: ServiceDep) -> schemas.CollectionOut:
    """One collection."""
    return _out(service.store.get(name))


@router.get("/{name}/statistics")
def collection_statistics(name: str, service: ServiceDep) -> schemas.StatisticsOut:
    """How balanced and how correlated its bits are, and how many items share a code.

    Of a large collection a random sample is looked at; `looked` says how many items.
    """
    return schemas.StatisticsOut(**service.store.use(name, statistics))


@router.delete("/{name}", status_code=204, response_class=Response)
def drop_collection(name: str, service: ServiceDep) -> None:
    """Drop a collection and its items."""
    service.drop_collection(name)


@router.post("/{name}/reencode", status_code=202, openapi_extra=takes(schemas.Reencode))
def reencode_collection(
    name: str, body: BodyDep, request: Request, response: Response, service: ServiceDep
) -> schemas.Accepted:
    """Encode a collection anew from the descriptors it keeps: a job; it serves meanwhile."""
    job = service.reencode(name, body.parse(schemas.Reencode).encoder)
    url = request.url_for("show_job", job=job).path
    response.headers["Location"] = url
    return schemas.Accepted(id=job, url=url)


@router.post("/{name}/snapshots", status_code=201)
def snapshot_collection(name: str, service: ServiceDep) -> schemas.SnapshotOut:
    """Write the items of this moment to one file in the data directory; it serves meanwhile."""
    file, items = service.snapshot(name)
    return schemas.SnapshotOut(snapshot=file, items=items)


@router.post("/{name}/restore", status_code=201, openapi_extra=takes(schemas.Restore))
def restore_collection(name: str, body: BodyDep, service: ServiceDep) -> schemas.CollectionOut:
    """Make a new collection of the items in a snapshot; a damaged one is refused."""
    return _out(service.restore(name, body.parse(schemas.Restore).snapshot))


def _out(collection: Collection) -> schemas.CollectionOut:
    return schemas.CollectionOut(
        name=collection.name,
        encoder=collection.encoder,
        fingerprint=collection.fingerprint,
        n_bits=collection.n_bits,
        items=len(collection),
        keep_descriptors=collection.keep_descriptors,
    )
