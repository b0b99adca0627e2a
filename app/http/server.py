"""Uvicorn with the application: where it listens, and how it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import Any

import structlog
import uvicorn
from starlette.concurrency import run_in_threadpool

from app.http import log_setup
from app.http.connection import Protocol
from app.http.middleware.access import is_loopback, keys_are_required
from app.http.open_connections import OpenConnections, possible_connections
from app.main import create_app
from app.service.data_dir import forget_url, note_url
from app.service.keys import WRITE
from app.service.service import Service
from app.service.settings import Settings
from index import InUse

# With the drain before it (1 s by default) and `Service.close` after it (1.5 s for queries and 1 s
# for jobs), this stays within the ten seconds that container runtimes allow.
GRACE_SECONDS = 6
# The last of them are for the answers of queries that are stopped.
LAST_SECONDS = 1
BACKLOG = 2048
_INTERRUPTED = 130

log = structlog.stdlib.get_logger("bitcell")


def serve(settings: Settings) -> None:
    """Serve until told to stop; raise OSError with advice if the service cannot start."""
    log_setup.configure(settings)
    connections = OpenConnections(possible_connections(settings.max_connections))
    # Both come first, so that what is wrong is reported in one line.
    with ExitStack() as on_failure:
        listening = on_failure.enter_context(_listen(settings.host, settings.port))
        service = _open(settings)
        on_failure.callback(service.close)
        _check_access(settings, service, _url(listening, reached_from_here=True))
        on_failure.pop_all()
    app = create_app(settings, service)
    config = uvicorn.Config(
        app,
        http=partial(Protocol, connections, settings.answer_timeout),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=BACKLOG,
    )
    try:
        _Server(config, app.state, service, settings.drain_seconds).run([listening])
    finally:
        # After SIGTERM, uvicorn ends the process by that signal. After Ctrl-C it returns here, and
        # Python would wait without a limit for threads that have not ended.
        if app.state.stopping:
            logging.shutdown()
            os._exit(_INTERRUPTED)


def _open(settings: Settings) -> Service:
    try:
        return Service(settings)
    except InUse as error:
        raise OSError(
            f"{error}: stop it, or set BITCELL_DATA_DIR to another directory for this service"
        ) from None


def _check_access(settings: Settings, service: Service, url: str) -> None:
    """Create the first key if keys are required and none ever was; warn if none are required.

    Raise OSError if keys are required and those that there were are gone.
    """
    if keys_are_required(settings, service.keys):
        # Of replicas that start at the same time, one creates a key.
        with service.state.locked("first key"):
            if service.keys.any():
                return
            if not service.keys.required:
                _create_first_key(settings, service, url)
                return
            raise OSError(
                f"{_why_keys_are_required(settings)}, and there is no API key: create one with "
                "`bitcell keys create NAME --write`, or set BITCELL_REQUIRE_KEYS=false if "
                "something else controls access"
            )
    elif not is_loopback(settings.host) or service.keys.required:
        log.warning("no key is required: everyone who reaches the service may read and write")


def _create_first_key(settings: Settings, service: Service, url: str) -> None:
    """Create a key and write it to stderr: once, and not with the logger, so that no log has it."""
    key, secret = service.keys.create("first start", WRITE)
    sys.stderr.write(
        f"\n{_why_keys_are_required(settings)}, so a key is needed. This first start has made one, "
        f"which may write\nand is shown only once:\n\n    {secret}\n\n"
        f"The page at {url} asks for it; other clients send `Authorization: Bearer KEY`.\n"
        "Another key:      bitcell keys create NAME, with --write if it may write\n"
        f"Revoke this one:  bitcell keys revoke {key.id}\n"
        "In a container, put `docker exec CONTAINER` before these commands.\n\n"
    )
    sys.stderr.flush()


def _why_keys_are_required(settings: Settings) -> str:
    if settings.require_keys:
        return "BITCELL_REQUIRE_KEYS is true"
    if not is_loopback(settings.host):
        return f"{settings.host} can be reached by others"
    return f"{settings.data_dir} has had API keys, so the service requires one"


class _Server(uvicorn.Server):
    """A server that logs its address once it answers, and drains before it stops."""

    def __init__(
        self, config: uvicorn.Config, state: Any, service: Service, drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._state = state
        self._service = service
        self._drain_seconds = drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(log_setup.log_loop_failure)
        await super().startup(sockets)
        if self.started and sockets:
            url = _url(sockets[0], reached_from_here=True)
            await run_in_threadpool(note_url, self._service.settings.data_dir, url)
            log.info(f"Bitcell is at {_url(sockets[0])}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and let the requests in progress end in time."""
        await run_in_threadpool(forget_url, self._service.settings.data_dir)
        stop, loop = self._service.searches.stop, asyncio.get_running_loop()
        loop.call_later(max(0, GRACE_SECONDS - LAST_SECONDS), stop)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop being ready, then drain. Ctrl-C and a second signal skip the drain."""
        first = not self._state.stopping
        self._state.stopping = True
        skip_drain = not first or sig == signal.SIGINT or self._drain_seconds == 0
        if skip_drain or self._loop is None:
            self._service.jobs.stop_following()
            super().handle_exit(sig, frame)
            return
        # A signal handler must be short, so the event loop does the rest.
        self._loop.call_soon_threadsafe(self._drain, sig)

    def _drain(self, sig: int) -> None:
        log.info("stopping", seconds=self._drain_seconds)
        self._service.jobs.stop_following()
        asyncio.get_running_loop().call_later(
            self._drain_seconds, lambda: super(_Server, self).handle_exit(sig, None)
        )


def _url(listening: socket.socket, *, reached_from_here: bool = False) -> str:
    """Return the URL of a socket, with an address that can be typed if `reached_from_here`."""
    host, port = listening.getsockname()[:2]
    if reached_from_here:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        with ExitStack() as on_failure:
            on_failure.enter_context(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            on_failure.pop_all()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"cannot listen on {host}:{port}: {reason}; choose another address with --host and "
            "--port, or with BITCELL_HOST and BITCELL_PORT"
        ) from None
    return listening
