"""`bitcell keys`: API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import load_settings

if TYPE_CHECKING:
    from app.service.keys import Keys

keys = typer.Typer(help="Manage API keys.", no_args_is_help=True)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="A name that tells you whose key it is.")],
    write: Annotated[
        bool, typer.Option("--write", help="Allow changes too; without it the key only reads.")
    ] = False,
) -> None:
    """Create an API key and print it once: only its hash is stored."""
    from app.service.keys import READ, WRITE

    key, secret = _keys().create(name, WRITE if write else READ)
    typer.echo(f"{key.id} {key.scope}, to be sent as `Authorization: Bearer KEY`:", err=True)
    typer.echo(secret)


@keys.command("list")
def list_keys() -> None:
    """List the keys: id, scope, time of creation, name."""
    from datetime import UTC, datetime

    for key in _keys().list():
        created = datetime.fromtimestamp(key.created, UTC).isoformat(timespec="seconds")
        typer.echo(f"{key.id}  {key.scope:5}  {created}  {key.name}")


@keys.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="The id of the key, from `bitcell keys list`.")],
) -> None:
    """Revoke a key. A running service refuses it at once."""
    _keys().revoke(key)


def _keys() -> Keys:
    from app.service.keys import Keys

    return Keys(load_settings().data_dir)
