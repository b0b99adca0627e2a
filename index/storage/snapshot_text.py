"""The ids and payloads of a block of a snapshot: JSON that is not trusted, parsed by pieces."""

from __future__ import annotations

import json
import re
from typing import Any

from index.validation import MAX_ID, MAX_PAYLOAD, as_text

# JSON escapes a character beyond the first 65,536 in 12 bytes.
_MAX_ID_TEXT = 12 * MAX_ID + 4
# Characters that are parsed at a time, several times the most that a payload has.
_PART = 1 << 20
_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


def ids_and_payloads(text: str, most: int) -> tuple[list[Any], list[str | None]]:
    """Parse a column of at most `most` ids and payloads; return the payloads as compact JSON.

    The payloads are parsed one at a time, because JSON can take 25 times its size once parsed.
    """
    parser = _Parser(text)
    parser.skip("[")
    ids = parser.value(most * _MAX_ID_TEXT)
    if not isinstance(ids, list) or len(ids) > most:
        raise TypeError(f"expected a list of at most {most} ids")
    parser.skip(",")
    parser.skip("[")
    texts: list[str | None] = []
    for place in range(len(ids)):
        if place:
            parser.skip(",")
        payload = parser.value(MAX_PAYLOAD)
        # Earlier versions took lone surrogates, which may come back.
        texts.append(
            None if payload is None else as_text(payload, f"item {place}", allow_surrogates=True)
        )
    parser.skip("]")
    parser.skip("]")
    parser.end()
    return ids, texts


class _Parser:
    """Parses JSON from the front, one value at a time, each of a limited size."""

    def __init__(self, text: str) -> None:
        self._text = text
        # What is parsed now: the part of the text that begins at `_start`.
        self._part, self._start, self._at = text[:_PART], 0, 0

    def value(self, limit: int) -> Any:
        """Return the next value; ValueError if it has more characters than `limit`, roughly."""
        is_last = self._start + len(self._part) == len(self._text)
        if len(self._part) - self._at < limit and not is_last:
            self._cut(max(limit, _PART))
        try:
            value, self._at = _DECODER.raw_decode(self._part, self._at)
        except ValueError as error:
            raise ValueError(f"{error}, among {len(self._part)} characters") from None
        if limit > _PART:
            self._cut(_PART)
        return value

    def skip(self, mark: str) -> None:
        """Skip a mark and the space after it; raise ValueError if something else comes."""
        if self._at == len(self._part):
            self._cut(_PART)
        if not self._part.startswith(mark, self._at):
            got = self._part[self._at : self._at + 20]
            raise ValueError(f"expected {mark!r}, got {got!r}")
        self._at += 1
        if space := _SPACE.match(self._part, self._at):
            self._at = space.end()

    def end(self) -> None:
        """Raise ValueError if more follows."""
        if rest := self._text[self._start + self._at :]:
            raise ValueError(f"expected the end, got {rest[:20]!r}")

    def _cut(self, size: int) -> None:
        """Begin the part to be parsed where the parser is."""
        self._start += self._at
        self._part, self._at = self._text[self._start : self._start + size], 0
