"""`bitcell keys`: API keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
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
        bool, typer.Option("--write", help="Allow changes too; otherwise the key can only read.")
    ] = False,
) -> None:
    """Create an API key and print it once: only its hash is stored."""
    from app.service.keys import READ, WRITE

    with _open(create=True) as opened:
        key, secret = opened.create(name, WRITE if write else READ)
    typer.echo(f"{key.id} {key.scope}, to be sent as `Authorization: Bearer KEY`:", err=True)
    typer.echo(secret)


@keys.command("list")
def list_keys() -> None:
    """List the keys: id, scope, time of creation, name."""
    from datetime import UTC, datetime

    with _open() as opened:
        listed = opened.list()
    if not listed:
        typer.echo("there are no keys", err=True)
    for key in listed:
        created = datetime.fromtimestamp(key.created, UTC).isoformat(timespec="seconds")
        typer.echo(f"{key.id}  {key.scope:5}  {created}  {key.name}")


@keys.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="The id of the key, from `bitcell keys list`.")],
) -> None:
    """Revoke a key. A running service refuses it at once."""
    with _open() as opened:
        opened.revoke(key)


@contextmanager
def _open(*, create: bool = False) -> Iterator[Keys]:
    """Open the keys of the data directory; ValueError if there is no file and `create` is false."""
    from app.service.data_dir import open_private
    from app.service.keys import Keys

    data_dir = load_settings().data_dir
    path = data_dir / "keys.db"
    if not create and not path.is_file():
        raise ValueError(f"there is no {path}: no key was created there; is BITCELL_DATA_DIR set?")
    open_private(data_dir)
    with closing(Keys(data_dir)) as opened:
        yield opened
