"""The command `bitcell`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli import benchmark, datasets, encoders, keys, options, serve, snapshots
from app.cli.collections.load import load
from app.cli.collections.query import query
from app.cli.collections.show import collections, methods
from app.cli.duplicates.command import duplicates
from app.cli.theory.explain import explain
from app.cli.theory.label_next import label_next
from app.cli.theory.recommend import recommend

_HELP = "Turn descriptors into short binary codes and find exact neighbours by Hamming distance."
cli = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (
    serve.serve,
    collections,
    load,
    query,
    datasets.gist,
    snapshots.snapshot,
    snapshots.restore,
    snapshots.backup,
    duplicates,
    encoders.train,
    encoders.encode,
    encoders.export,
    benchmark.benchmark,
    recommend,
    explain,
    label_next,
    methods,
):
    cli.command()(command)
cli.add_typer(datasets.data, name="data")
cli.add_typer(keys.keys, name="keys")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"bitcell {version('bitcell')}")
        raise typer.Exit


@cli.callback(help=_HELP)
def choose(
    data_dir: Annotated[
        Path | None, typer.Option(help="The data directory, in place of BITCELL_DATA_DIR.")
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Note the options that stand before the command."""
    options.chosen["data_dir"] = data_dir


def main() -> None:
    """Run a command. An error that the user can correct is one line on stderr and status 2."""
    try:
        cli()
    except Exception as error:
        from index import Unavailable  # Only now, because loading it takes time.

        if not isinstance(error, (ValueError, OSError, Unavailable)):
            raise
        typer.secho(f"bitcell: {error}", fg="red", err=True)
        sys.exit(2)
