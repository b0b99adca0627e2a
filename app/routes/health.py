"""Whether the process lives, and whether it can serve."""

from __future__ import annotations

from fastapi import APIRouter

from app.deps import ServiceDep

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Liveness: the process answers, however long the queries that run."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(service: ServiceDep) -> dict[str, str | int]:
    """Readiness: the record can be read and the collections are in memory."""
    service.database.read("SELECT 1")
    return {"status": "ready", "collections": len(service.store.list())}
