"""Routes of snapshot files: list, download, upload and delete."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from fastapi.responses import FileResponse

from app.http import schemas
from app.http.bodies import FILE, FILE_BODY, attachment, write_body
from app.http.dependencies import ServiceDep
from app.service.files.snapshot_files import SnapshotFile

router = APIRouter(prefix="/v1/snapshots", tags=["collections"])


@router.get("")
def list_snapshots(service: ServiceDep) -> list[schemas.SnapshotFileOut]:
    """List the snapshot files, newest first."""
    return [_out(found) for found in service.snapshots.files.list()]


@router.get(
    "/{snapshot}",
    response_class=FileResponse,
    responses={200: {"content": {FILE: {"schema": {"type": "string", "format": "binary"}}}}},
)
def download_snapshot(snapshot: str, service: ServiceDep) -> FileResponse:
    """Return a snapshot file, which is sent as it is read from the disk."""
    path = service.snapshots.files.complete(snapshot)
    return FileResponse(path, media_type=FILE, headers=attachment(snapshot))


@router.put("/{snapshot}", status_code=201, openapi_extra=FILE_BODY)
async def upload_snapshot(
    snapshot: str, request: Request, service: ServiceDep
) -> schemas.SnapshotFileOut:
    """Store a snapshot that was downloaded, or made elsewhere, under a new name.

    It is written to the disk as it arrives, and its checksums are verified.
    """
    receiving = contextmanager_in_threadpool(service.snapshots.receiving(snapshot))
    async with receiving as file:
        await write_body(request, file)
    return _out(await run_in_threadpool(service.snapshots.files.describe, snapshot))


@router.delete("/{snapshot}", status_code=204, response_class=Response)
def delete_snapshot(snapshot: str, service: ServiceDep) -> None:
    """Delete a snapshot file."""
    service.snapshots.files.delete(snapshot)


def _out(found: SnapshotFile) -> schemas.SnapshotFileOut:
    return schemas.SnapshotFileOut(
        snapshot=found.snapshot, bytes=found.bytes, created=found.created
    )
