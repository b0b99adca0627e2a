"""Routes of benchmarks."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from app.benchmark.report import POLICY
from app.benchmark.rows import NEIGHBOURS, rows
from app.http import schemas
from app.http.accepted import accepted
from app.http.bodies import takes
from app.http.dependencies import BodyDep, ServiceDep

router = APIRouter(prefix="/v1/benchmarks", tags=["benchmarks"])


@router.post("", status_code=202, openapi_extra=takes(schemas.NewBenchmark))
def start_benchmark(
    body: BodyDep, request: Request, response: Response, service: ServiceDep
) -> schemas.Accepted:
    """Start a job that measures methods at several code lengths on a dataset or a collection."""
    new = body.parse(schemas.NewBenchmark)
    table = rows(new.methods, new.bits, neighbours=new.protocol == NEIGHBOURS)
    protocol = new.as_protocol()
    seeds = [new.seed] if new.seeds is None else new.seeds
    benchmark = service.benchmarks.start(
        table, protocol, seeds, dataset=new.dataset, collection=new.collection
    )
    return accepted(request, response, "show_benchmark", benchmark=benchmark)


@router.get("")
def list_benchmarks(service: ServiceDep) -> list[schemas.JobOut]:
    """List all benchmarks, newest first, without their results."""
    return [schemas.JobOut(**found) for found in service.jobs.newest("benchmark")]


@router.get("/{benchmark}")
def show_benchmark(benchmark: str, service: ServiceDep) -> schemas.JobOut:
    """Show the state and progress of a benchmark, and its table once it is done."""
    return schemas.JobOut(**service.jobs.get(benchmark, "benchmark"))


@router.get("/{benchmark}/report", response_class=HTMLResponse)
def report(benchmark: str, service: ServiceDep) -> HTMLResponse:
    """Return the report: an HTML page with the table, plots and, for images, pictures."""
    page = service.jobs.output(benchmark, "benchmark")
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})
