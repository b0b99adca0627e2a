"""The names of fields in filters."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from index.errors import InvalidItems

MAX_NAMES = 8
MAX_NAME = 64
_PLAIN = re.compile(r"[^\x00-\x1f.]+(\.[^\x00-\x1f.]+)*")
# Each name after a dot, and in double quotes if it has a dot or a quote itself.
_QUOTED = re.compile(r'\.("(?:[^"\\]|\\.)*"|[^\x00-\x1f."]+)')


class Field(NamedTuple):
    """A field of payloads: the names that lead to it, and whether to read the lists in it."""

    names: tuple[str, ...]
    is_list: bool = False


def parse_field(key: str) -> tuple[str, ...]:
    """Return the names that lead to a field of the payload.

    The key is `a.b` for b within a, or `.a.b`, where a name may be a JSON string: `."a.b"`.

    Raises
    ------
    InvalidItems
        The key is not of this form, or has more than 8 names, or a name of more than 64 characters.
    """
    names = _names(key) if isinstance(key, str) and len(key) <= 8 * MAX_NAMES * MAX_NAME else []
    if not 1 <= len(names) <= MAX_NAMES or not all(1 <= len(name) <= MAX_NAME for name in names):
        raise InvalidItems(
            f"a field is up to {MAX_NAMES} names with dots between them, each of 1 to {MAX_NAME} "
            'characters; after a dot at the beginning, as in ."a.b".c, a name may be in double '
            f"quotes; got {key!r:.80}"
        )
    return tuple(names)


def _names(key: str) -> list[str]:
    """Return the names in a key; none if it is not well formed."""
    if not key.startswith("."):
        return key.split(".") if _PLAIN.fullmatch(key) else []
    names = []
    end = 0
    while end < len(key):
        match = _QUOTED.match(key, end)
        if match is None:
            return []
        name, end = match[1], match.end()
        if name.startswith('"'):
            try:
                name = json.loads(name)
            except ValueError:
                return []
        names.append(name)
    return names
