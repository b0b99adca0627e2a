"""How much input is cut into several requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcell_client.arguments import (
    Codes,
    as_ids,
    as_integer,
    as_labels,
    as_list,
    check_distinct,
    check_lengths,
    descriptors_or_codes,
)
from bitcell_client.call import Request
from bitcell_client.errors import BitcellError, ServiceError
from bitcell_client.json_body import InvalidRow

T = TypeVar("T")
BATCH = 10_000
"""Rows per request by default, or fewer if they do not fit into `_BODY`."""
# Bytes of descriptors in one request: half of what the service accepts by default.
_BODY = 32 << 20
# Bytes of a number in JSON.
_DIGITS = 25


@dataclass(frozen=True)
class Part:
    """The rows from `start` to before `stop` of the input of `load`, as arguments of `upsert`."""

    start: int
    stop: int
    arguments: dict[str, Any]

    @contextmanager
    def described(self) -> Iterator[None]:
        """Add to an error of the block which row it is about, and what is stored."""
        try:
            yield
        except (BitcellError, ValueError) as error:
            if isinstance(error, ServiceError | InvalidRow):
                error.shift_row(self.start)
            text = f"{error}; {self.start or 'no'} rows are stored"
            if not _is_refusal(error):
                text += f"; those from {self.start} to {self.stop - 1} may be stored"
            error.args = (text,)
            if isinstance(error, BitcellError):
                error.stored = self.start
            raise


def _is_refusal(error: BitcellError | ValueError) -> bool:
    """Return whether nothing of the request was stored."""
    return isinstance(error, ValueError) or (isinstance(error, ServiceError) and error.status < 500)


def split(
    rows: NDArray[Any] | list[str],
    request: Callable[[Any], Request[T]],
    join: Callable[[list[T]], T],
    *,
    most: int,
    is_json: bool = False,
) -> Request[T]:
    """Return a request for all rows, or the first of as many as they need.

    Parameters
    ----------
    rows : array (n, d) or list of str
    request : callable
        Returns the request for some of the rows.
    join : callable
        Returns one answer of the answers, in the order of the rows.
    most : int
        Rows of a request.
    is_json : bool
        Whether an array is sent as JSON.
    """
    size = max(1, most)
    if isinstance(rows, np.ndarray):
        size = min(size, _rows_per_body(rows, is_json=is_json))
    if len(rows) <= size:
        return request(rows)
    parts = (
        replace(request(rows[start : start + size]), row=start)
        for start in range(0, len(rows), size)
    )
    return replace(next(parts), more=parts, join=join)


def _rows_per_body(X: NDArray[Any], *, is_json: bool) -> int:
    number = _DIGITS if is_json else 4 if X.dtype == np.float32 else 8
    n_bytes: int = max(1, number * X.shape[1])
    return max(1, _BODY // n_bytes)


def batches(
    ids: Iterable[str | int],
    descriptors: ArrayLike | None,
    labels: ArrayLike | None,
    payloads: Sequence[Mapping[str, Any] | None] | None,
    codes: Codes | None,
    batch: int,
) -> list[Part]:
    """Check the whole input, and return what each `upsert` gets of it."""
    what, X = descriptors_or_codes(descriptors, codes)
    strings = as_ids(ids)
    integers = None if labels is None else as_labels(labels)
    objects = None if payloads is None else as_list("payloads", payloads)
    check_lengths(X, strings, integers, objects, what)
    check_distinct(strings)
    # Items with payloads go as JSON, and their descriptors too.
    batch = min(as_integer("batch", batch), _rows_per_body(X, is_json=objects is not None))
    batch = max(1, batch)
    columns: dict[str, Any] = {
        "ids": strings,
        f"{what}s": X,
        "labels": integers,
        "payloads": objects,
    }
    parts = []
    for start in range(0, len(X), batch):
        rows = slice(start, start + batch)
        given = {
            name: values if values is None else values[rows] for name, values in columns.items()
        }
        parts.append(Part(start, min(start + batch, len(X)), given))
    return parts
