"""Routes for liveness, readiness and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from app.errors import Unready
from app.http.dependencies import ServiceDep

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz(service: ServiceDep) -> dict[str, str]:
    """Report that the process is alive. Running queries do not delay the answer.

    `database` is there, and `unreachable`, while a shared database does not answer.
    """
    return {"status": "ok"} | ({} if service.is_reached else {"database": "unreachable"})


@router.get(
    "/readyz",
    responses={503: {"description": "The service is about to stop, or its data is damaged."}},
)
def readyz(request: Request, service: ServiceDep) -> dict[str, str | int]:
    """Report that the service can answer: it reads its database, and all collections are loaded."""
    if request.app.state.stopping:
        raise Unready("the service is about to stop")
    return {"status": "ready", "collections": service.check_ready()}


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(service: ServiceDep) -> Response:
    """Return the metrics in the text format of Prometheus."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
