"""`bitcell migrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import check_data, load_settings

if TYPE_CHECKING:
    from app.service.settings import Settings

_FOLDERS = ("datasets", "snapshots")


def migrate(
    collections: Annotated[
        list[str] | None,
        typer.Argument(help="The collections to copy (default: all of them, and all encoders)."),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            help="Where to copy encoders to, in place of BITCELL_DATABASE_URL, which other users "
            "of this machine cannot see."
        ),
    ] = None,
    index_url: Annotated[
        str | None,
        typer.Option(help="Where to copy collections to, in place of BITCELL_INDEX_URL."),
    ] = None,
    keys: Annotated[
        bool,
        typer.Option("--keys", help="Copy the API keys too, if none has been created there."),
    ] = False,
    queries: Annotated[
        int, typer.Option(help="Sampled queries that each collection is compared by.", min=1)
    ] = 100,
) -> None:
    """Copy collections of the data directory to PostgreSQL and Milvus, and compare the answers.

    No service may have the data directory open. If the command stops early, run it again: what is
    there is compared, and not copied again.
    """
    from app.service.data_dir import open_private

    settings = load_settings(database_url=database_url, index_url=index_url)
    check_data(settings.data_dir)
    open_private(settings.data_dir)
    _run(settings, collections or [], queries, keys=keys)
    for folder in _FOLDERS:
        if any((settings.data_dir / folder).glob("*")):
            typer.echo(
                f"{settings.data_dir / folder} is not copied: its files belong to "
                f"{folder}/ of BITCELL_SHARED_DIR",
                err=True,
            )


def _run(settings: Settings, names: list[str], queries: int, *, keys: bool) -> None:
    from app.cli.progress import progress_bar
    from app.errors import Conflict
    from app.service.migration import copying, places
    from index import NotFound, Unavailable

    try:
        with places.opened(settings) as (source, target, shared_keys):
            # First: nobody may read without a key what needed one before.
            typer.echo(places.copy_keys(settings.data_dir, shared_keys, wanted=keys))
            with progress_bar(1) as progress:
                copied = copying.migrate(source, target, names, queries=queries, progress=progress)
    except (Conflict, NotFound, Unavailable) as error:
        raise ValueError(str(error)) from None
    for one in copied:
        done = "copied" if one.is_new else "were there"
        typer.echo(f"{one.name}: {one.items:,} items {done}, with the same answers")
