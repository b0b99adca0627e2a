"""The command `bitcell duplicates`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import KeyFileOption, KeyOption, UrlOption, check_output, json_filter

_MOST_SHOWN = 50


def duplicates(
    collection: Annotated[str, typer.Argument(help="The collection to search.")],
    radius: Annotated[
        int, typer.Option(min=0, help="Largest number of bits in which two near-duplicates differ.")
    ],
    filter_: Annotated[
        str | None,
        typer.Option("--filter", help="Compare only items that match, as JSON: '{\"label\": 3}'."),
    ] = None,
    max_pairs: Annotated[
        int | None,
        typer.Option(min=1, help="Largest number of pairs to keep (default: 1,000,000)."),
    ] = None,
    show: Annotated[
        int, typer.Option(min=0, max=_MOST_SHOWN, help="Number of groups to print, largest first.")
    ] = 20,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A .jsonl file to write all groups to, one a line; or .npy, for three arrays."
        ),
    ] = None,
    url: UrlOption = None,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Find groups of near-duplicates in a collection of a running service, exactly."""
    from app.cli.duplicates.output import print_groups
    from app.cli.progress import progress_bar
    from app.cli.running_service import connected

    if out is not None:
        check_output(out, ".npy" if out.suffix == ".npy" else ".jsonl")
    condition = None if filter_ is None else json_filter(filter_)
    body = {"radius": radius, "filter": condition, "max_pairs": max_pairs}
    with connected(url, key, key_file) as service:
        given = {name: value for name, value in body.items() if value is not None}
        job = service.find_duplicates(collection, given).id
        try:
            with progress_bar(1) as progress:
                ended = service.wait(job, progress)
        except KeyboardInterrupt:  # Nobody waits for the job any more.
            service.remove_job(job)
            raise
        if out is not None:
            service.save_groups(job, out)
    print_groups(ended.result or {}, show)
    typer.echo(f"{out}: all groups" if out else f"All groups: GET /v1/jobs/{job}/groups, or --out.")
