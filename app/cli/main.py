"""The command `bitcell`."""

from __future__ import annotations

import sys

import typer

from app.cli import benchmark, datasets, encoders, keys, serve, snapshots
from app.cli.duplicates.command import duplicates

cli = typer.Typer(
    help="Turn descriptors into short binary codes and find exact neighbours by Hamming distance.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    serve.serve,
    datasets.gist,
    snapshots.snapshot,
    snapshots.restore,
    snapshots.backup,
    duplicates,
    encoders.train,
    encoders.encode,
    encoders.export,
    benchmark.benchmark,
):
    cli.command()(command)
cli.add_typer(datasets.data, name="data")
cli.add_typer(keys.keys, name="keys")


def main() -> None:
    """Run a command. An error that the user can correct is one line on stderr and status 2."""
    try:
        cli()
    except (ValueError, OSError) as error:
        typer.secho(f"bitcell: {error}", fg="red", err=True)
        sys.exit(2)
