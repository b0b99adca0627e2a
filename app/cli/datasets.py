"""`bitcell data`: fetch datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import load_settings

data = typer.Typer(help="Fetch datasets.", no_args_is_help=True)


@data.command()
def cifar10(
    archive: Annotated[
        Path | None,
        typer.Option(help="A downloaded cifar-10-binary.tar.gz to read instead of fetching it."),
    ] = None,
) -> None:
    """Make the dataset `cifar10`: fetch the images and describe them with GIST.

    If it is interrupted, the next run resumes.
    """
    from app.datasets.cifar10 import fetch

    path = fetch(load_settings().data_dir, archive)
    typer.echo(f"{path}: bitcell benchmark --dataset cifar10 --methods raw,lsh")
