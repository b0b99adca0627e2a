"""How `load` cuts items into requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from bitcell_client.arguments import (
    as_ids,
    as_integer,
    as_labels,
    as_list,
    as_shaped,
    check_distinct,
    check_lengths,
)
from bitcell_client.errors import BitcellError, ServiceError

BATCH = 10_000
"""Items per request of `load`, or fewer if they do not fit into `_BODY`."""
# Bytes of descriptors in one request: half of what the service accepts by default.
_BODY = 32 << 20
# Bytes of a number in JSON.
_DIGITS = 25


@dataclass(frozen=True)
class Part:
    """The rows from `start` to before `stop` of the input of `load`, as arguments of `upsert`."""

    start: int
    stop: int
    arguments: tuple[Any, ...]

    @contextmanager
    def described(self) -> Iterator[None]:
        """Add to an error of the block which row it is about, and what is stored."""
        try:
            yield
        except (BitcellError, ValueError) as error:
            text = [str(error)]
            if (row := getattr(error, "row", None)) is not None:
                error.row = self.start + row  # type: ignore[union-attr]
                text.append(f"this is row {self.start + row} of the input")
            text.append(f"{self.start or 'no'} rows are stored")
            if not _is_refusal(error):
                text.append(f"those from {self.start} to {self.stop - 1} may be stored")
            error.args = ("; ".join(text),)
            if isinstance(error, BitcellError):
                error.stored = self.start
            raise


def _is_refusal(error: BitcellError | ValueError) -> bool:
    """Return whether nothing of the request was stored."""
    return isinstance(error, ValueError) or (isinstance(error, ServiceError) and error.status < 500)


def batches(
    ids: Iterable[str | int],
    descriptors: ArrayLike,
    labels: ArrayLike | None,
    payloads: Sequence[Mapping[str, Any] | None] | None,
    batch: int,
) -> list[Part]:
    """Check the whole input, and return what each `upsert` gets of it."""
    X, strings = as_shaped(descriptors), as_ids(ids)
    integers = None if labels is None else as_labels(labels)
    objects = None if payloads is None else as_list("payloads", payloads)
    check_lengths(X, strings, integers, objects)
    check_distinct(strings)
    # Items with payloads go as JSON, and their descriptors too.
    number = _DIGITS if objects is not None else X.itemsize
    batch = min(as_integer("batch", batch), _BODY // max(1, number * X.shape[1]))
    batch = max(1, batch)
    parts = []
    for start in range(0, len(X), batch):
        rows = slice(start, start + batch)
        columns = (values if values is None else values[rows] for values in (integers, objects))
        stop = min(start + batch, len(X))
        parts.append(Part(start, stop, (strings[rows], X[rows], *columns)))
    return parts
