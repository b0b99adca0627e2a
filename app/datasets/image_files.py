"""Image files on the disk: where they are, and the ids of their items."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

LONGEST_ID = 256
"""Characters of an id, at most: `index.validation.MAX_ID`, which would load Faiss."""


def find(
    paths: Iterable[Path], suffixes: Collection[str], on_error: Callable[[OSError], None]
) -> tuple[list[Path], int]:
    """Return the files among `paths` and the image files in the folders among them, each once.

    Folders are searched with all folders in them, in the order of names. Hidden files and folders
    are left out, and so are files whose names do not end in one of `suffixes`. Links to folders are
    not followed.

    Parameters
    ----------
    paths : iterable of Path
        Files and folders. What is no folder is returned as it is, whether it exists or not.
    suffixes : collection of str
        In lower case, with the dot.
    on_error : callable
        Called with the error, which has the path as `filename`, for a folder that cannot be read.

    Returns
    -------
    list of Path, int
        The files, and how many other files of folders were left out because of their names.
    """
    found: dict[Path, None] = {}  # a set that keeps its order
    others = 0
    for path in paths:
        if not _is_folder(path):
            found[path] = None
            continue
        for file in _files(path, on_error):
            if file.suffix.lower() in suffixes:
                found[file] = None
            else:
                others += 1
    return list(found), others


def item_id(path: Path) -> str:
    """Return an id for the item of a file: its path, in a form that the service accepts as an id.

    Each `%`, each character that cannot be printed and each byte that is not UTF-8 is written as in
    URLs, so that `urllib.parse.unquote_to_bytes` returns the path. A path with a part `..` becomes
    absolute, because an id cannot have such a part. The id may be longer than the service accepts.
    """
    if ".." in path.parts:
        path = Path(os.path.realpath(path.parent), path.name)
    return "".join(
        character
        if character.isprintable() and character != "%"
        else quote(character.encode("utf-8", "surrogateescape"))
        for character in str(path)
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # Reading the file will tell why.
        return False


def _files(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield the files in a folder and the folders in it, but no hidden ones."""
    for parent, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))
