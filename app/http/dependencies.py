"""Dependencies of the handlers."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from app.http.bodies import Raw, raw_body
from app.service.service import Service


# Async, because FastAPI would run a plain function in a thread.
async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]
BodyDep = Annotated[Raw, Depends(raw_body)]
