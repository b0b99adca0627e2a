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
        options = " and ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise ValueError(f"say where to copy to, with {options} or the settings of that name")
    with ExitStack() as stack:
        try:
            source = open_all(_embedded(settings), stack)
        except InUse:
            raise ValueError(
                f"a service has {settings.data_dir} open: stop it; or copy its data with `bitcell "
                "backup` while it runs, and migrate the copy, if nothing is written meanwhile"
            ) from None
        # The files of jobs would be here; the source is locked already.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bitcell-")))
        target = open_all(settings.model_copy(update={"data_dir": folder}), stack)
        yield (
            Place(source.store, EncoderStore(source.state)),
            Place(target.store, EncoderStore(target.state)),
            SharedKeys(target.state, required_here=False),
        )


def copy_keys(data_dir: Path, target: SharedKeys) -> int:
    """Copy the API keys of a data directory; return how many were not there yet."""
    with closing(Keys(data_dir)) as source:
        return target.adopt(source.hashes()) if source.required else 0


def _embedded(settings: Settings) -> Settings:
    return settings.model_copy(update=dict.fromkeys(("shared_dir", *_URLS)))
