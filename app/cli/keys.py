"""`bitcell keys`: API keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import check_data, load_settings

if TYPE_CHECKING:
    from app.service.state.keys import KeyStore

_WITHOUT_KEYS = (
    "the service refuses every request that needs one. Create one with `bitcell keys create NAME "
    "--write`, or start the service with BITCELL_REQUIRE_KEYS=false to serve without keys"
)

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
    settings = load_settings()
    data_dir, in_file = settings.data_dir, settings.database_url is None
    place = data_dir if in_file else "the shared database"
    typer.echo(
        f"{key.id} {key.scope} in {place}, to be sent as `Authorization: Bearer KEY`:", err=True
    )
    typer.echo(secret)
    if in_file and not (data_dir / "bitcell.db").exists():
        typer.echo(f"{data_dir} holds no data yet: is this where the service has it?", err=True)


@keys.command("list")
def list_keys() -> None:
    """List the keys: id, scope, time of creation, name."""
    from datetime import UTC, datetime

    with _open() as opened:
        listed, required = opened.list(), opened.required
    if not listed:
        typer.echo(f"there are no keys{f': {_WITHOUT_KEYS}' if required else ''}", err=True)
    for key in listed:
        created = datetime.fromtimestamp(key.created, UTC).isoformat(timespec="seconds")
        typer.echo(f"{key.id}  {key.scope:5}  {created}  {key.name}")


@keys.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="The id of the key, from `bitcell keys list`.")],
) -> None:
    """Revoke a key. A running service refuses it at once. This needs no room on the disk."""
    with _open() as opened:
        last = len(opened.list()) == 1
        opened.revoke(key)
    if last:
        typer.echo(f"this was the last key: {_WITHOUT_KEYS}", err=True)


@contextmanager
def _open(*, create: bool = False) -> Iterator[KeyStore]:
    """Open the keys of the service; ValueError if there is no file and `create` is false."""
    from app.service.data_dir import open_private
    from app.service.keys import FILE
    from app.service.state.opening import keys_of

    settings = load_settings()
    data_dir, in_file = settings.data_dir, settings.database_url is None
    if in_file and create and "data_dir" not in settings.model_fields_set:
        check_data(data_dir)
    if in_file and (create or data_dir.is_dir()):
        open_private(data_dir)
    with keys_of(settings) as opened:
        if in_file and not create and not (data_dir / FILE).is_file():
            missing = f"there is no {data_dir / FILE}"
            if opened.required:
                raise ValueError(f"{missing}, although keys were created there: {_WITHOUT_KEYS}")
            raise ValueError(f"{missing}: no key was created there; is BITCELL_DATA_DIR set?")
        yield opened
