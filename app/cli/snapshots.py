"""`bitcell snapshot` and `bitcell restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import check_data, check_output, load_settings

UrlOption = Annotated[
    str | None,
    typer.Option(
        help="URL of a running service that owns the data directory (default: what it noted there)."
    ),
]


def snapshot(
    collection: Annotated[str, typer.Argument(help="The collection to copy.")],
    file: Annotated[Path, typer.Argument(help="The .snapshot file to write.")],
    url: UrlOption = None,
) -> None:
    """Write a collection to one checksummed file, whether or not a service is running."""
    from app.cli.progress import progress_bar
    from app.cli.snapshot_files import save

    settings = load_settings()
    check_data(settings.data_dir)
    with progress_bar(None, f"writing {collection}"):
        items = save(settings, url, collection, check_output(file, ".snapshot"))
    typer.echo(f"{file}: {items} items of {collection}")


def restore(
    file: Annotated[Path, typer.Argument(help="The .snapshot file to read.")],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the new collection (default: its name in the snapshot)."),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Create a collection from a snapshot, whether or not a service is running."""
    from app.cli.progress import progress_bar
    from app.cli.snapshot_files import load

    settings = load_settings()
    check_data(settings.data_dir)
    with progress_bar(None, f"reading {file}"):
        restored, items = load(settings, url, file, name)
    typer.echo(f"{restored}: {items} items")
