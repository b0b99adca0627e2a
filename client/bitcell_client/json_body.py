"""Bodies in JSON, in which numpy's numbers, booleans and arrays are plain ones."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from bitcell_client.arguments import check_complete


def as_json(body: Any) -> bytes:
    """Return a body as JSON, in which numpy's numbers, booleans and arrays are plain ones.

    Raises
    ------
    ValueError
        The body holds something that JSON does not have, such as NaN or a date.
    """
    try:
        text = json.dumps(
            body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
        )
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected values that JSON can hold: {error}") from None


class InvalidRow(ValueError):
    """A row of the input is not valid."""

    def __init__(self, row: int, reason: ValueError) -> None:
        super().__init__(f"{reason}; in row {row}")
        self.row = row

    def shift_row(self, start: int) -> None:
        """Say which row of the whole input it is, where this part of it began with row `start`."""
        self.row += start
        self.args = (f"{self}; this is row {self.row} of the input",)


def as_items(items: list[dict[str, Any]]) -> bytes:
    """Return items as the JSON of an upsert; see `as_json`."""
    try:
        return as_json({"items": items})
    except ValueError:
        for row, item in enumerate(items):
            try:
                as_json(item)
            except ValueError as error:
                raise InvalidRow(row, error) from None
        raise


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufUO":
        check_complete("a value", value)
        plain = value.tolist()
        if not isinstance(plain, np.generic):
            return plain
    raise TypeError(f"got {type(value).__name__} {value!r:.50}")
