"""Uvicorn with the application, told where to listen and how to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from types import FrameType
from typing import Any

import structlog
import uvicorn

from app.http import log_setup
from app.http.connection import Protocol
from app.http.middleware.access import is_loopback, keys_are_required
from app.main import create_app
from app.service.service import Service
from app.service.settings import Settings

# With the wait before it, within the ten seconds that orchestrators give.
GRACE = 7
BACKLOG = 2048

log = structlog.stdlib.get_logger("bitcell")


def serve(settings: Settings) -> None:
    """Serve until told to stop; OSError, with what to do, where it cannot start."""
    log_setup.configure(settings)
    # Both before anything is made: what is wrong is then said in one line.
    listening = _listen(settings.host, settings.port)
    service = Service(settings)
    _check_access(settings, service)
    app = create_app(settings, service)
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
        backlog=BACKLOG,
    )
    _Server(config, app.state, service, settings.drain_seconds).run([listening])


def _check_access(settings: Settings, service: Service) -> None:
    """OSError where strangers would be let in, or nobody."""
    if keys_are_required(settings, service.keys):
        if not service.keys.any():
            service.close()
            raise OSError(
                f"others reach {settings.host}, and there is no key to tell them apart: make one "
                "with `bitcell keys create NAME --write`, or set BITCELL_REQUIRE_KEYS=false where "
                "something else keeps strangers out"
            )
    elif not is_loopback(settings.host) or service.keys.any():
        log.warning("no key is asked for: whoever reaches the service may read and write")


class _Server(uvicorn.Server):
    """Says the address once it answers there; stops in good order."""

    def __init__(self, config: uvicorn.Config, state: Any, service: Service, drain: float) -> None:
        super().__init__(config)
        self._state = state
        self._service = service
        self._drain = drain
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            log.info(f"Bitcell is at http://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Readiness goes down first; the second signal, and Ctrl-C, do not wait for others."""
        first = not self._state.stopping
        self._state.stopping = True
        if not first or sig == signal.SIGINT or self._loop is None or self._drain == 0:
            self._service.jobs.stop_following()
            super().handle_exit(sig, frame)
            return
        # What a signal handler does must be short: the loop does the rest.
        self._loop.call_soon_threadsafe(self._wait_for_others, sig)

    def _wait_for_others(self, sig: int) -> None:
        log.info("stopping", seconds=self._drain)
        self._service.jobs.stop_following()
        asyncio.get_running_loop().call_later(
            self._drain, lambda: super(_Server, self).handle_exit(sig, None)
        )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"cannot listen on {host}:{port}: {reason}; choose another address by --host and "
            "--port, or BITCELL_HOST and BITCELL_PORT"
        ) from None
    return listening
