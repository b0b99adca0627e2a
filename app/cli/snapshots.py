"""`bitcell snapshot`, `bitcell restore` and `bitcell backup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import UrlOption, check_output, check_settings, load_settings


def snapshot(
    collection: Annotated[str, typer.Argument(help="The collection to copy.")],
    file: Annotated[Path, typer.Argument(help="The .snapshot file to write.")],
    url: UrlOption = None,
) -> None:
    """Write a collection to one checksummed file, whether or not a service is running."""
    from app.cli.progress import progress_bar
    from app.cli.snapshot_files import save

    settings = load_settings()
    check_settings(settings)
    with progress_bar(None, f"writing {collection}"):
        items = save(settings, url, collection, check_output(file, ".snapshot"))
    typer.echo(f"{file}: {items} items of {collection}")


def restore(
    file: Annotated[Path, typer.Argument(help="The .snapshot file to read.")],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the new collection (default: its name in the snapshot)."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Name of its encoder, which is created if there is none of that name (default: "
            "its name in the snapshot)."
        ),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Create a collection from a snapshot, whether or not a service is running."""
    from app.cli.progress import progress_bar
    from app.cli.snapshot_files import load

    settings = load_settings()
    check_settings(settings)
    with progress_bar(None, f"reading {file}"):
        restored, items = load(settings, url, file, name, encoder)
    typer.echo(f"{restored}: {items} items")


def backup(
    folder: Annotated[Path, typer.Argument(help="The new folder to write the copy to.")],
) -> None:
    """Copy the whole data directory, whether or not a service is running.

    The copy is itself a data directory: to restore it, start a service on a copy of it.
    """
    from app.cli.progress import progress_bar
    from app.service.data_dir import open_private
    from app.service.files.backup import back_up

    settings = load_settings()
    if settings.database_url is not None or settings.index_url is not None:
        raise ValueError(
            "this service has data in servers, which `bitcell backup` cannot copy at one moment: "
            "copy the database with pg_dump, Milvus with its own backup tool, and the folder "
            f"{settings.files_dir}; or take snapshots of single collections with `bitcell snapshot`"
        )
    check_settings(settings)
    open_private(settings.data_dir)
    with progress_bar(1) as progress:
        n_files, n_bytes = back_up(settings.data_dir, folder, progress)
    typer.echo(f"{folder}: {n_bytes:,} bytes in {n_files} files")
