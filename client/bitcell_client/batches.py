"""How `load` cuts items into requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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

BATCH = 10_000
"""Items per request of `load`, or fewer if they do not fit into `_BODY`."""
# Bytes of descriptors in one request: half of what the service accepts by default.
_BODY = 32 << 20
# Bytes of a number in JSON.
_DIGITS = 25


def batches(
    ids: Iterable[str | int],
    descriptors: ArrayLike,
    labels: ArrayLike | None,
    payloads: Sequence[Mapping[str, Any] | None] | None,
    batch: int,
) -> list[tuple[Any, ...]]:
    """Return the arguments of each `upsert`: ids, descriptors, labels, payloads."""
    X, strings = as_shaped(descriptors), as_ids(ids)
    integers = None if labels is None else as_labels(labels)
    objects = None if payloads is None else as_list("payloads", payloads)
    check_lengths(X, strings, integers, objects)
    check_distinct(strings)
    # Items with payloads go as JSON, and their descriptors too.
    number = _DIGITS if objects is not None else X.itemsize
    batch = min(as_integer("batch", batch), _BODY // max(1, number * X.shape[1]))
    parts = [slice(start, start + max(1, batch)) for start in range(0, len(X), max(1, batch))]
    return [
        (
            strings[part],
            X[part],
            None if integers is None else integers[part],
            None if objects is None else objects[part],
        )
        for part in parts
    ]
