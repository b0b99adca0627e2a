"""Uvicorn with the application, told where to listen."""

from __future__ import annotations

import logging
import socket

import uvicorn

from app.main import create_app
from app.settings import Settings

log = logging.getLogger("bitcell")


class _Server(uvicorn.Server):
    """Says the address once it answers there, which with port 0 is not known before."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            bound = self.servers[0].sockets[0].getsockname()
            host = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
            log.info("Bitcell is at http://%s:%s", host, bound[1])


def serve(settings: Settings) -> None:
    """Serve until told to stop; SystemExit where it could not start."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(settings.log_level.upper())
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    server = _Server(config)
    server.run()
    if not server.started:
        raise SystemExit(3)
