"""`bitcell serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.options import load_settings


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on, in place of BITCELL_HOST.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on, in place of BITCELL_PORT; 0 picks a free one."),
    ] = None,
) -> None:
    """Start the service. Its settings are BITCELL_* environment variables."""
    from app.http.server import serve as run_server

    run_server(load_settings(host=host, port=port))
