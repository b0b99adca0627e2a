"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware

from app import npy, schemas
from app.access import Access, writes
from app.demo import make_demo
from app.errors import MEDIA_TYPE, add_handlers
from app.limits import Limits
from app.observe import Observe
from app.routes import benchmarks, collections, encoders, health, home, items, jobs
from app.service import Service
from app.settings import Settings

_DESCRIPTION = "Descriptors in, short binary codes out, exact neighbours by Hamming distance."
# Less than this goes in a packet or two either way.
GZIP_FROM = 4096
# Floats and packed bits hardly shrink; events go out one by one.
_NOT_GZIPPED = (npy.MEDIA_TYPE, "text/event-stream")
# Handlers parse their bodies themselves, so FastAPI does not find these.
_BODIES = (
    schemas.NewEncoder,
    schemas.ToEncode,
    schemas.NewCollection,
    schemas.Reencode,
    schemas.Restore,
    schemas.NewItems,
    schemas.Ids,
    schemas.Query,
    schemas.NewBenchmark,
    schemas.Problem,
)


def create_app(settings: Settings | None = None, service: Service | None = None) -> FastAPI:
    """The application.

    Parameters
    ----------
    settings : Settings, optional
        By default from the environment.
    service : Service, optional
        What lies in the data directory, opened; by default it is opened when the application
        starts. The application closes it when it stops.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = await run_in_threadpool(Service, settings) if service is None else service
        try:
            await run_in_threadpool(make_demo, opened)
            app.state.service = opened
            yield
        finally:
            await run_in_threadpool(opened.close)

    app = FastAPI(
        title="Bitcell",
        version=version("bitcell"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
    )
    # Routes are tried in turn, those of an included router twice: queries come early, and the
    # routes are the application's own.
    for part in (health, items, encoders, collections, jobs, benchmarks, home):
        app.router.routes.extend(part.router.routes)
    add_handlers(app)
    app.state.stopping = False
    # The last one added is the outermost.
    app.add_middleware(
        GZipMiddleware, minimum_size=GZIP_FROM, compresslevel=1, exclude_content_types=_NOT_GZIPPED
    )
    app.add_middleware(Access, settings=settings)
    app.add_middleware(Limits, settings=settings)
    app.add_middleware(Observe)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        _, found = models_json_schema(
            [(model, "validation") for model in _BODIES],
            ref_template="#/components/schemas/{model}",
        )
        document["components"]["schemas"] |= found["$defs"]
        for path, methods in document["paths"].items():
            for method, call in methods.items():
                call["responses"]["4XX"] = _problem("A problem with the request")
                if writes(method.upper(), path):
                    call["responses"]["507"] = _problem("There is no room on the disk")
        app.openapi_schema = document
    return app.openapi_schema
