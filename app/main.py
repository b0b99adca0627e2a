"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware

from app.http import npy
from app.http.bodies import FILE
from app.http.job_events import JobEvents
from app.http.middleware.access import Access
from app.http.middleware.limits import Limits
from app.http.middleware.parameters import KnownParameters, known_parameters
from app.http.middleware.prefix import Prefix
from app.http.middleware.request_log import Observe
from app.http.openapi import document
from app.http.problems import add_handlers
from app.http.routes import (
    benchmarks,
    collections,
    datasets,
    encoders,
    filtered,
    gist,
    health,
    home,
    items,
    jobs,
    recommendations,
    snapshots,
)
from app.http.routes.theory import explanations
from app.service.demo import make_demo
from app.service.service import Service
from app.service.settings import Settings

_DESCRIPTION = (
    "Turns descriptors into short binary codes and finds exact nearest neighbours by Hamming "
    "distance."
)
# Smaller answers fit into a packet or two anyway.
GZIP_MINIMUM = 4096
# Floats and packed bits hardly shrink, and events must be sent one by one.
_NOT_GZIPPED = (npy.MEDIA_TYPE, FILE, "text/event-stream")


def create_app(settings: Settings | None = None, service: Service | None = None) -> FastAPI:
    """Create the application.

    Parameters
    ----------
    settings : Settings, optional
        By default those of the environment.
    service : Service, optional
        By default the application opens the data directory when it starts. In either case it
        closes the service when it stops.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = await run_in_threadpool(Service, settings) if service is None else service
        try:
            await run_in_threadpool(make_demo, opened)
            app.state.service = opened
            with closing(JobEvents(opened.jobs)) as app.state.job_events:
                yield
        finally:
            await run_in_threadpool(opened.close)

    app = FastAPI(
        title="Bitcell",
        version=version("bitcell"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        openapi_url=None,  # home.py has the route: FastAPI would render the document every time.
        docs_url=None,
        redoc_url=None,
    )
    _add_routes(app)
    add_handlers(app)
    app.state.stopping = False
    # The middleware added last is the outermost.
    app.add_middleware(
        GZipMiddleware,
        minimum_size=GZIP_MINIMUM,
        compresslevel=1,
        exclude_content_types=_NOT_GZIPPED,
    )
    app.add_middleware(Access, settings=settings)
    app.add_middleware(Limits, settings=settings)
    app.add_middleware(Observe)
    if settings.root_path:
        app.add_middleware(Prefix, root_path=settings.root_path)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def _add_routes(app: FastAPI) -> None:
    """Add all routes to the application's own list.

    Routes are tried in order, so queries come first. The routes of a router that is included with
    `include_router` would be matched twice.
    """
    modules = (
        items,
        filtered,
        health,
        encoders,
        gist,
        collections,
        jobs,
        benchmarks,
        recommendations,
        explanations,
        datasets,
        snapshots,
        home,
    )
    routers = [module.router for module in modules]
    for router in (*routers, encoders.methods):
        app.router.routes.extend(router.routes)
    for route in app.router.routes:
        if not isinstance(route, APIRoute):
            continue
        if route.methods and "GET" in route.methods:
            route.methods.add("HEAD")  # FastAPI adds none. Uvicorn sends no body in answer to it.
        # The pages take no parameters either, but links to pages often have some.
        if route.include_in_schema:
            route.app = KnownParameters(route.app, known_parameters(route))
