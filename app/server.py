"""Uvicorn with the application, told where to listen."""

from __future__ import annotations

import logging
import socket

import uvicorn

from app.main import create_app
from app.service import Service
from app.settings import Settings

log = logging.getLogger("bitcell")


def serve(settings: Settings) -> None:
    """Serve until told to stop; OSError, with what to do, where it cannot start."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(settings.log_level.upper())
    # Both before anything is made: what is wrong is then said in one line.
    listening = _listen(settings.host, settings.port)
    service = Service(settings)
    config = uvicorn.Config(
        create_app(settings, service),
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    _Server(config).run([listening])


class _Server(uvicorn.Server):
    """Says the address once it answers there."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            log.info("Bitcell is at http://%s:%s", f"[{host}]" if ":" in host else host, port)


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
