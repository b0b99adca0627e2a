"""Whether the process lives, whether it can serve, and how it does."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from app.http.dependencies import ServiceDep
from app.http.problems import Unready

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Liveness: the process answers, however long the queries that run."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    responses={503: {"description": "The service is about to stop, or its data is damaged."}},
)
def readyz(request: Request, service: ServiceDep) -> dict[str, str | int]:
    """Readiness: the record can be read and the collections are in memory."""
    if request.app.state.stopping:
        raise Unready("the service is about to stop")
    if (fault := service.database.fault) is not None:
        raise Unready(fault)
    service.database.read("SELECT 1")
    return {"status": "ready", "collections": len(service.store.list())}


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(service: ServiceDep) -> Response:
    """What Prometheus scrapes, in its text format."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
