"""Routes of datasets: list, show, upload and delete."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool

from app.http import schemas
from app.http.bodies import FILE_BODY, write_body
from app.http.dependencies import ServiceDep

router = APIRouter(prefix="/v1/datasets", tags=["benchmarks"])


@router.get("")
def list_datasets(service: ServiceDep) -> list[str]:
    """List the datasets that trainings, benchmarks, recommendations and explanations can name."""
    return service.datasets.list()


@router.get("/{dataset}")
def show_dataset(dataset: str, service: ServiceDep) -> schemas.DatasetOut:
    """Show the size and the time of a dataset."""
    return schemas.DatasetOut(**asdict(service.datasets.get(dataset)))


@router.put("/{dataset}", status_code=201, openapi_extra=FILE_BODY)
async def upload_dataset(
    dataset: str, request: Request, service: ServiceDep
) -> schemas.UploadedDatasetOut:
    """Store a dataset file under a new name; its format is recognised by its content.

    It is written to the disk as it arrives, and then read once.
    """
    receiving = contextmanager_in_threadpool(service.datasets.receiving(dataset))
    async with receiving as upload:
        await write_body(request, upload.file)
    stored = await run_in_threadpool(service.datasets.get, dataset)
    return schemas.UploadedDatasetOut(**asdict(stored), **asdict(upload.contents))


@router.delete("/{dataset}", status_code=204, response_class=Response)
def delete_dataset(dataset: str, service: ServiceDep) -> None:
    """Delete a dataset that no job uses."""
    service.datasets.delete(dataset)
