"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware

from app.http import npy
from app.http.middleware.access import Access
from app.http.middleware.limits import Limits
from app.http.middleware.request_log import Observe
from app.http.openapi import document
from app.http.problems import add_handlers
from app.http.routes import benchmarks, collections, encoders, gist, health, home, items, jobs
from app.service.demo import make_demo
from app.service.service import Service
from app.service.settings import Settings

_DESCRIPTION = "Descriptors in, short binary codes out, exact neighbours by Hamming distance."
# Less than this goes in a packet or two either way.
GZIP_FROM = 4096
# Floats and packed bits hardly shrink; events go out one by one.
_NOT_GZIPPED = (npy.MEDIA_TYPE, "text/event-stream")


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
    # Routes are tried in turn, those of an included router twice: queries come first, and the
    # routes are the application's own.
    parts = (items, health, encoders, gist, collections, jobs, benchmarks, home)
    for router in (*(part.router for part in parts), encoders.methods, benchmarks.datasets):
        app.router.routes.extend(router.routes)
    add_handlers(app)
    app.state.stopping = False
    # The last one added is the outermost.
    app.add_middleware(
        GZipMiddleware, minimum_size=GZIP_FROM, compresslevel=1, exclude_content_types=_NOT_GZIPPED
    )
    app.add_middleware(Access, settings=settings)
    app.add_middleware(Limits, settings=settings)
    app.add_middleware(Observe)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app
