"""Opening the data directory that is copied from, and the servers that are copied to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from app.service.encoder_store import EncoderStore
from app.service.keys import Keys
from app.service.migration.copying import Place
from app.service.settings import Settings
from app.service.state.keys import SharedKeys
from app.service.state.opening import open_all
from index import InUse

_URLS = ("database_url", "index_url")


@contextmanager
def opened(settings: Settings) -> Iterator[tuple[Place, Place, SharedKeys]]:
    """Open the embedded data directory, the servers that the URLs name, and their keys.

    Raises
    ------
    ValueError
        A URL is missing or wrong, or a service has the data directory open.
    OSError
        The data directory cannot be read.
    Unavailable
        A server cannot be reached.
    """
    if missing := [name for name in _URLS if getattr(settings, name) is None]:
        options = [f"--{name.replace('_', '-')} or BITCELL_{name.upper()}" for name in missing]
        raise ValueError(f"say where to copy to: give {', and '.join(options)}")
    with ExitStack() as stack:
        try:
            source = open_all(_embedded(settings), stack)
        except InUse:
            raise ValueError(
                f"a service has {settings.data_dir} open: stop it. Or, to go on answering queries, "
                "stop the writers, then make a copy with `bitcell backup`, without "
                "BITCELL_DATABASE_URL and BITCELL_INDEX_URL, and migrate the copy"
            ) from None
        # An open service has a data directory for itself, and that of the source is locked.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bitcell-")))
        # The comparison must see all that was written.
        update = {"data_dir": folder, "consistency": "strong"}
        target = open_all(settings.model_copy(update=update), stack)
        yield (
            Place(source.store, EncoderStore(source.state)),
            Place(target.store, EncoderStore(target.state)),
            SharedKeys(target.state, required_here=False),
        )


def copy_keys(data_dir: Path, target: SharedKeys, *, wanted: bool) -> str:
    """Copy the API keys of a data directory if that is wanted; return what was done.

    If the data directory requires keys, so does the target from then on.
    """
    with closing(Keys(data_dir)) as source:
        if not source.required:
            return "keys: none to copy"
        hashes = source.hashes()
    if not wanted:
        target.require()
        return (
            "keys: required from now on, and not copied: copy them with --keys before others are "
            "created there, or create others with `bitcell keys create`"
        )
    if not target.adopt(hashes):
        return (
            "keys: not copied, because keys were copied or created there before: those that were "
            "revoked since stay revoked"
        )
    return f"keys: {len(hashes):,} copied"


def _embedded(settings: Settings) -> Settings:
    return settings.model_copy(update=dict.fromkeys(("shared_dir", *_URLS)))
